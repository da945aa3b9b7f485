package transaction

import "sync"

// Buffers that outlive a call are kept in four sizes and used again, so that a
// busy server forwards without leaving garbage.

var sizes = [...]int{512, 1024, 2048, 4096}

const keepPerSize = 256 // free buffers kept per size and shard, 120 MiB at most; the rest is the collector's

type buffers struct {
	mu   sync.Mutex
	free [len(sizes)][][]byte
}

// get returns an empty buffer with room for n octets.
func (p *buffers) get(n int) []byte {
	for i, size := range sizes {
		if n > size {
			continue
		}
		p.mu.Lock()
		if k := len(p.free[i]); k > 0 {
			b := p.free[i][k-1]
			p.free[i] = p.free[i][:k-1]
			p.mu.Unlock()
			return b
		}
		p.mu.Unlock()
		return make([]byte, 0, size)
	}
	return make([]byte, 0, n)
}

// put takes b back. The caller must not touch it again.
func (p *buffers) put(b []byte) {
	for i, size := range sizes {
		if cap(b) != size {
			continue
		}
		p.mu.Lock()
		if len(p.free[i]) < keepPerSize {
			p.free[i] = append(p.free[i], b[:0])
		}
		p.mu.Unlock()
		return
	}
}

// keep returns a copy of b in a kept buffer, using old's room when it is enough.
func (p *buffers) keep(old, b []byte) []byte {
	if cap(old) >= len(b) && cap(old) <= 4*len(b)+512 {
		return append(old[:0], b...)
	}
	if old != nil {
		p.put(old)
	}
	return append(p.get(len(b)), b...)
}
