package clock

import (
	"context"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Tick is the wheel's grain: a timer fires at most this much late, plus what the machine is late itself.
const Tick = 10 * time.Millisecond

const (
	shardBits = 3
	shards    = 1 << shardBits
	slots     = 1024 // 10.24 s a lap; longer timers stay in their slot and are looked at once a lap
	awake     = math.MinInt64
	never     = math.MaxInt64
	firing    = -1
)

// Timer is one alarm, meant to be part of the thing that it wakes. The zero Timer is ready and not set.
// It may be set again and again, and must not be copied after the first Set.
type Timer struct {
	Owner      any // for the function that is called: the thing that the timer is part of
	next, prev *Timer
	due        int64 // tick at which it fires; 0 = not set; firing = taken out of its slot, about to be called
	f          func(*Timer)
}

// Wheel holds timers. Set and Stop cost two list links and one uncontended lock, and allocate nothing.
type Wheel struct {
	// Panicked, when set before Run, is told what a timer's function panicked with. The wheel goes on.
	Panicked func(v any)

	shard [shards]shard
	plan  atomic.Int64 // tick for which Run sleeps; awake while it does not
	wake  chan struct{}
}

type shard struct {
	mu     sync.Mutex
	n      int
	done   int64              // last tick whose timers have been called
	used   [slots / 64]uint64 // which slots hold timers
	slot   [slots]list
	firing list // what is being called now
	_      [64]byte
}

type list struct{ first, last *Timer }

// NewWheel makes a wheel. Timers can be set at once; they fire while Run runs.
func NewWheel() *Wheel {
	w := &Wheel{wake: make(chan struct{}, 1)}
	w.plan.Store(awake)
	for i := range w.shard {
		w.shard[i].done = Mono() / int64(Tick)
	}
	return w
}

// Set makes t call f after d, on the wheel's goroutine, never earlier and at most one Tick later. f must be quick. A timer
// that is already set is moved. Setting from several goroutines at once is safe; the last one wins.
func (w *Wheel) Set(t *Timer, d time.Duration, f func(*Timer)) {
	w.SetAt(t, Mono()+int64(max(d, 0)), f)
}

// SetAt is Set with a moment as Mono counts, for those who have read the clock already.
func (w *Wheel) SetAt(t *Timer, at int64, f func(*Timer)) {
	due := (at + int64(Tick) - 1) / int64(Tick)
	s := w.shardOf(t)
	s.mu.Lock()
	if t.due != 0 {
		s.unlinkLocked(t)
	}
	due = max(due, s.done+1)
	t.due, t.f = due, f
	s.linkLocked(t)
	s.mu.Unlock()
	if due < w.plan.Load() {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// Stop takes t off the wheel. It says whether t was set; if not, its function has been called or is being called.
func (w *Wheel) Stop(t *Timer) bool {
	s := w.shardOf(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.due == 0 {
		return false
	}
	s.unlinkLocked(t)
	t.f = nil
	return true
}

// Len counts the timers that are set.
func (w *Wheel) Len() int {
	n := 0
	for i := range w.shard {
		s := &w.shard[i]
		s.mu.Lock()
		n += s.n
		s.mu.Unlock()
	}
	return n
}

// Run calls what falls due until ctx ends. It sleeps until the next slot that holds a timer, and for good when none does.
func (w *Wheel) Run(ctx context.Context) {
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	for ctx.Err() == nil {
		w.plan.Store(awake)
		next := w.advance(Mono() / int64(Tick))
		w.plan.Store(next)
		// A Set that came before the line above saw no need to wake us.
		if w.nextTick() < next {
			continue
		}
		var ring <-chan time.Time
		if next != never {
			alarm.Reset(time.Duration(next*int64(Tick) - Mono()))
			ring = alarm.C
		}
		select {
		case <-ring:
		case <-w.wake:
		case <-ctx.Done():
		}
	}
}

// advance calls what is due up to tick now and gives the next tick at which a slot must be looked at.
func (w *Wheel) advance(now int64) int64 {
	for {
		next := int64(never)
		for i := range w.shard {
			s := &w.shard[i]
			s.mu.Lock()
			d := s.nextLocked()
			if d > now {
				s.done = max(s.done, now)
			}
			s.mu.Unlock()
			next = min(next, d)
		}
		if next > now {
			return next
		}
		for i := range w.shard {
			w.fire(&w.shard[i], next)
		}
	}
}

// fire calls the timers of one shard that are due up to tick.
func (w *Wheel) fire(s *shard, tick int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := s.nextLocked(); d <= tick; d = s.nextLocked() {
		s.done = d
		for t := s.slot[d%slots].first; t != nil; {
			next := t.next
			if t.due <= d {
				s.unlinkLocked(t)
				t.due = firing
				s.linkLocked(t)
			}
			t = next
		}
		// Stop and Set still find those in this list.
		for t := s.firing.first; t != nil; t = s.firing.first {
			s.unlinkLocked(t)
			f := t.f
			s.mu.Unlock()
			w.call(f, t)
			s.mu.Lock()
		}
	}
	s.done = max(s.done, tick)
}

func (w *Wheel) call(f func(*Timer), t *Timer) {
	defer func() {
		if v := recover(); v != nil && w.Panicked != nil {
			w.Panicked(v)
		}
	}()
	f(t)
}

// nextTick gives the first tick to come whose slot holds a timer, or never.
func (w *Wheel) nextTick() int64 {
	next := int64(never)
	for i := range w.shard {
		s := &w.shard[i]
		s.mu.Lock()
		next = min(next, s.nextLocked())
		s.mu.Unlock()
	}
	return next
}

func (s *shard) nextLocked() int64 {
	if s.n == 0 {
		return never
	}
	return s.done + 1 + s.distanceLocked(int((s.done+1)%slots))
}

// distanceLocked gives how many slots lie between from and the next one in use. The shard is not empty.
func (s *shard) distanceLocked(from int) int64 {
	word, bit := from/64, from%64
	if u := s.used[word] >> bit; u != 0 {
		return int64(bits.TrailingZeros64(u))
	}
	for k := 1; k <= len(s.used); k++ {
		if u := s.used[(word+k)%len(s.used)]; u != 0 {
			return int64(k*64 - bit + bits.TrailingZeros64(u))
		}
	}
	return slots
}

func (s *shard) linkLocked(t *Timer) {
	l := &s.firing
	if t.due != firing {
		i := t.due % slots
		l = &s.slot[i]
		s.used[i/64] |= 1 << (i % 64)
		s.n++
	}
	t.prev, t.next = l.last, nil
	if l.last == nil {
		l.first = t
	} else {
		l.last.next = t
	}
	l.last = t
}

func (s *shard) unlinkLocked(t *Timer) {
	l := &s.firing
	if t.due != firing {
		l = &s.slot[t.due%slots]
		s.n--
	}
	if t.prev == nil {
		l.first = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next == nil {
		l.last = t.prev
	} else {
		t.next.prev = t.prev
	}
	if i := t.due % slots; t.due != firing && l.first == nil {
		s.used[i/64] &^= 1 << (i % 64)
	}
	t.next, t.prev, t.due = nil, nil, 0
}

// shardOf spreads timers by their address, which stays the same for a timer's life.
func (w *Wheel) shardOf(t *Timer) *shard {
	h := uint64(uintptr(unsafe.Pointer(t))>>4) * 0x9E3779B97F4A7C15
	return &w.shard[h>>(64-shardBits)]
}
