package transport

import (
	"net/netip"
	"sync"

	"fernamt/wire/clock"
	"fernamt/wire/sip"
)

// local is the hop between two roles of one process.
type local struct {
	l    *Layer
	info *sip.LinkInfo
	to   func(m *sip.Message)
	back *local // where answers go

	mu      sync.Mutex // guards all below
	queue   [][]byte
	size    int
	running bool
}

// Local gives a link inside the process: what is sent on it is parsed from a private copy and handed to to, in order, on
// a goroutine that lives while messages wait. Such a message's flow is the link itself, so that answers come to to as
// well; with one transaction layer for both ends that is what is wanted. Send fails when 4 times Limits.Queue waits.
func (l *Layer) Local(to func(m *sip.Message)) sip.Link {
	k := l.local(to)
	k.back = k
	return k
}

// Pair gives two links whose ends are a and b: what is sent on toA arrives at a with toB as its flow, and the reverse.
func (l *Layer) Pair(a, b func(m *sip.Message)) (toA, toB sip.Link) {
	x, y := l.local(a), l.local(b)
	x.back, y.back = y, x
	return x, y
}

func (l *Layer) local(to func(m *sip.Message)) *local {
	return &local{l: l, info: l.describe(sip.LinkInfo{Transport: sip.Local}), to: to}
}

// Info implements sip.Link.
func (k *local) Info() *sip.LinkInfo { return k.info }

// Send implements sip.Link.
func (k *local) Send(_ netip.AddrPort, b []byte) error {
	if t := k.l.trace.Load(); t != nil {
		(*t)(true, sip.Flow{Link: k}, b)
	}
	own := append(make([]byte, 0, len(b)+1024), b...) // room for edits
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.size > 0 && k.size+len(b) > 4*k.l.c.Limits.Queue {
		return ErrQueueFull
	}
	k.queue = append(k.queue, own)
	k.size += len(b)
	k.l.count.out[sip.Local].Add(1)
	k.l.count.queued.Add(int64(len(b)))
	if !k.running {
		k.running = true
		go k.run()
	}
	return nil
}

// run hands over what waits, and goes.
func (k *local) run() {
	for {
		k.mu.Lock()
		q := k.queue
		if k.queue = nil; len(q) == 0 {
			k.running = false
			k.mu.Unlock()
			return
		}
		k.mu.Unlock()
		for _, b := range q {
			n := len(b)
			k.l.count.in[sip.Local].Add(1)
			// A message of its own: the receiver may hand it on.
			k.l.handUp(new(sip.Message), sip.Flow{Link: k.back}, b, clock.Mono(), k.to)
			k.l.count.queued.Add(-int64(n))
			k.mu.Lock()
			k.size -= n
			k.mu.Unlock()
		}
	}
}
