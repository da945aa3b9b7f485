package dialog

import "sync"

// turn runs the work of one thing: in order, one piece at a time. The goroutine lives only
// while there is work, so ten thousand idle subscriptions cost none.
type turn struct {
	mu    sync.Mutex
	work  []func()
	busy  bool
	panic func(v any) // told of a panic in a piece of work; nil: it is not caught
}

// turnLimit bounds what may wait. A peer that sends faster than it is served loses.
const turnLimit = 256

// do queues f; false when the queue is full.
func (t *turn) do(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.work) >= turnLimit {
		return false
	}
	t.work = append(t.work, f)
	if !t.busy {
		t.busy = true
		go t.run()
	}
	return true
}

func (t *turn) run() {
	for {
		t.mu.Lock()
		if len(t.work) == 0 {
			t.work, t.busy = nil, false
			t.mu.Unlock()
			return
		}
		f := t.work[0]
		t.work[0] = nil
		t.work = t.work[1:]
		t.mu.Unlock()
		t.one(f)
	}
}

func (t *turn) one(f func()) {
	if t.panic != nil {
		defer func() {
			if v := recover(); v != nil {
				t.panic(v)
			}
		}()
	}
	f()
}
