package frontend

import (
	"fmt"
	"hash/maphash"
	"io"
	"sort"
	"sync"
	"time"

	"fernamt/core/route"
	"fernamt/wire/proxy"
	"fernamt/wire/sip"
)

// maxSilence is how long a call may go on without any sign of it before it counts as
// over: both phones may have vanished.
const maxSilence = 24 * time.Hour

// call is one call that passes through here. Its fields are guarded by its shard's
// mutex, but for those that never change.
type call struct {
	f        *role
	id       string // Call-ID
	from, to string
	hash     uint64
	began    time.Time
	seen     int64 // monotonic ns of the last request within it
	answered time.Time
	ended    bool
}

// calls are those that ring or go on, by Call-ID.
type calls struct {
	seed   maphash.Seed
	shards [64]callShard
}

type callShard struct {
	mu sync.Mutex
	m  map[uint64]*call
}

func (c *calls) init() {
	c.seed = maphash.MakeSeed()
	for i := range c.shards {
		c.shards[i].m = map[uint64]*call{}
	}
}

func (c *calls) shard(h uint64) *callShard { return &c.shards[h%uint64(len(c.shards))] }

// watch makes the watcher of a new call; nil for what is no call, or for one that comes
// by a second time on its way.
func (f *role) watch(r *route.Request) proxy.Watcher {
	if r.Method() != sip.INVITE || len(r.ToTag()) > 0 {
		return nil
	}
	h := maphash.Bytes(f.calls.seed, r.CallID())
	s := f.calls.shard(h)
	s.mu.Lock()
	if s.m[h] != nil {
		s.mu.Unlock()
		return nil
	}
	x := &call{f: f, id: string(r.CallID()), from: string(r.FromAOR()), to: calledAddress(r), hash: h, began: time.Now(), seen: r.Now}
	s.m[h] = x
	s.mu.Unlock()
	if f.RecordCalls {
		f.record.add(Started{x.id, x.from, x.to, x.began})
	}
	return x
}

func calledAddress(r *route.Request) string {
	if r.To.Account != nil {
		return r.To.Account.Address
	}
	return string(r.RequestURI())
}

// Passing implements proxy.Watcher: it sees the final response go by. A call that fails is
// over at once, since the same Call-ID may come again with a password (RFC 3261 §22.2) or
// another session timer (RFC 4028 §7.4), long before the transaction has ended.
func (x *call) Passing(_ *proxy.Context, code int, m *sip.Message, _ *proxy.Target) {
	if code >= 300 {
		x.failed(code)
	}
	if code/100 != 2 {
		return
	}
	s := x.f.calls.shard(x.hash)
	s.mu.Lock()
	first := x.answered.IsZero()
	if first {
		x.answered = time.Now()
	}
	s.mu.Unlock()
	if first && x.f.RecordCalls {
		by := ""
		if m != nil {
			if c, err := m.Contact(); err == nil {
				by = string(c.RawURI)
			}
		}
		x.f.record.add(Answered{x.id, by, x.answered})
	}
}

// Over implements proxy.Watcher: a call without any final response is over with its
// transaction.
func (x *call) Over(_ *proxy.Context, code int) {
	if code/100 != 2 {
		x.failed(code)
	}
}

func (x *call) failed(code int) {
	s := x.f.calls.shard(x.hash)
	s.mu.Lock()
	done := x.ended || !x.answered.IsZero()
	if !done {
		x.endLocked(s)
	}
	s.mu.Unlock()
	if !done && x.f.RecordCalls {
		x.f.record.add(Ended{Call: x.id, Status: code, At: time.Now()})
	}
}

func (x *call) endLocked(s *callShard) {
	x.ended = true
	if s.m[x.hash] == x {
		delete(s.m, x.hash)
	}
}

// within sees the requests of a call: its BYE ends it.
func (c *calls) within(f *role, r *route.Request) {
	switch r.Method() {
	case sip.BYE, sip.INVITE, sip.UPDATE:
	default:
		return
	}
	h := maphash.Bytes(c.seed, r.CallID())
	s := c.shard(h)
	s.mu.Lock()
	x := s.m[h]
	if x == nil || x.ended {
		s.mu.Unlock()
		return
	}
	x.seen = r.Now
	if r.Method() != sip.BYE {
		s.mu.Unlock()
		return
	}
	x.endLocked(s)
	s.mu.Unlock()
	x.close(f, 200)
}

func (x *call) close(f *role, code int) {
	if !f.RecordCalls {
		return
	}
	now := time.Now()
	e := Ended{Call: x.id, Status: code, Answered: !x.answered.IsZero(), At: now}
	if e.Answered {
		e.Seconds = int(now.Sub(x.answered) / time.Second)
	}
	f.record.add(e)
}

// endLost gives up on calls without any sign of life.
func (f *role) endLost() {
	now := f.gate.Now()
	for i := range f.calls.shards {
		s := &f.calls.shards[i]
		var lost []*call
		s.mu.Lock()
		for _, x := range s.m {
			if now-x.seen > int64(maxSilence) {
				x.endLocked(s)
				lost = append(lost, x)
			}
		}
		s.mu.Unlock()
		for _, x := range lost {
			x.close(f, 0)
		}
	}
}

// dialog is a call as dump shows it.
type dialog struct {
	Call    string    `json:"call"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	State   string    `json:"state"` // ringing or talking
	Began   time.Time `json:"began"`
	Seconds int       `json:"seconds"` // of talk
}

// list gives the calls, the oldest first.
func (c *calls) list() []dialog {
	all := []dialog{}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, x := range s.m {
			d := dialog{Call: x.id, From: x.from, To: x.to, State: "ringing", Began: x.began}
			if !x.answered.IsZero() {
				d.State, d.Seconds = "talking", int(time.Since(x.answered)/time.Second)
			}
			all = append(all, d)
		}
		s.mu.Unlock()
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Began.Before(all[j].Began) })
	return all
}

// Dump writes one line per call.
func (c *calls) Dump(w io.Writer) error {
	for _, d := range c.list() {
		if _, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%ds\n", d.Call, d.From, d.To, d.State, d.Seconds); err != nil {
			return err
		}
	}
	return nil
}
