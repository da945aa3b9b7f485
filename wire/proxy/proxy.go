// Package proxy forwards requests and brings back responses: RFC 3261 §16 with
// RFC 4320, RFC 5393 and RFC 6026. It knows no users and no policy: who a request is
// for comes in a Plan.
//
// A Context is the response context of one request. Its mutex guards it; transport
// goroutines, the wheel and dialling goroutines call in. A Watcher and a plan's
// functions are called with that mutex held: they must be quick and must not call
// the Context again. A Context's mutex is taken before a transaction's.
package proxy

import (
	"bytes"
	"context"
	"hash/maphash"
	"strconv"
	"time"

	"fernamt/wire/clock"
	"fernamt/wire/sip"
	"fernamt/wire/transaction"
)

// Dialer finds and opens ways to a hop.
type Dialer interface {
	// Find gives a way that is open already. Of several sockets it is the one of element
	// (Plan.Element), who forwards.
	Find(element string, hop sip.Hop) (sip.Flow, bool)
	Dial(ctx context.Context, hop sip.Hop) (sip.Flow, error)
}

// Target is one place to forward to.
type Target struct {
	URI    []byte    // the new Request-URI; nil keeps it
	Flow   sip.Flow  // a known way there; zero: Hops are tried in order
	Hops   []sip.Hop // RFC 3263 §4.3: the next one after a 503, a timeout or a dead transport
	Routes [][]byte  // Route values to push, the first one to visit first (Path, RFC 3327)
	Group  int       // targets of one group ring together, groups follow each other upwards
	Gone   int       // status when it cannot be reached; 0: 503
	// Ring is how long it may ring; of a group the longest counts, 0: as the plan says. For
	// what is no INVITE it is how long this target may give no sign at all, a 100 being one.
	Ring time.Duration
	Edit func(*sip.Message) // last change before the Via; may be nil
	Ref  any                // the caller's own mark, shown to the Watcher
}

// Plan says how one request travels on.
type Plan struct {
	Element string   // who forwards; part of the loop check, since roles share a process
	Targets []Target // sorted by Group
	// Record adds our Record-Route for the branch that leaves on down; nil: stay out.
	Record func(m *sip.Message, up, down sip.Flow, t *Target)
	// More is asked when every target has failed; code is the best answer of those tried
	// since it was asked last. It gives further targets, or takes the request over (taken)
	// and ends it by Finish.
	More func(c *Context, code int) (next []Target, taken bool)
	// Lost is asked before a final failure goes upstream. m is the request, as it came or as
	// it was sent to t, the last target tried, with the caller's Vias alone; it is valid until
	// Lost returns. Who takes the request over (taken) ends it by Reply. Unlike More it costs
	// a request that succeeds nothing.
	Lost  func(c *Context, m *sip.Message, t *Target, code int) (taken bool)
	Watch Watcher       // may be nil
	Ring  time.Duration // how long one group may ring; 0: only timer C
}

// Watcher sees a context's responses on their way back and may change them.
type Watcher interface {
	// Passing is called before a response goes upstream; t is nil for our own.
	Passing(c *Context, code int, m *sip.Message, t *Target)
	// Over is called once, when the server transaction has ended.
	Over(c *Context, code int)
}

// Proxy forwards over one transaction layer.
type Proxy struct {
	layer    *transaction.Layer
	dial     Dialer
	wheel    *clock.Wheel
	seed     maphash.Seed
	timerC   time.Duration
	leaving  func(m *sip.Message, f sip.Flow)
	panicked func(v any)
}

// Config is what a Proxy needs. TimerC is 181 s when zero (RFC 3261 §16.6: more than
// 3 minutes).
type Config struct {
	Layer  *transaction.Layer
	Dialer Dialer
	Wheel  *clock.Wheel
	TimerC time.Duration
	// Leaving sees each message that is passed on, last of all, with the flow that it
	// leaves by. It may take away what that side must not see; nil: nothing.
	Leaving func(m *sip.Message, f sip.Flow)
	// Panicked is told what a goroutine of a request's own panicked with, on that
	// goroutine; nil: nobody. Only that request ends.
	Panicked func(v any)
}

// New makes a proxy.
func New(c Config) *Proxy {
	p := &Proxy{layer: c.Layer, dial: c.Dialer, wheel: c.Wheel, seed: maphash.MakeSeed(), timerC: c.TimerC,
		leaving: c.Leaving, panicked: c.Panicked}
	if p.timerC == 0 {
		p.timerC = 181 * time.Second
	}
	if p.leaving == nil {
		p.leaving = func(*sip.Message, sip.Flow) {}
	}
	if p.panicked == nil {
		p.panicked = func(any) {}
	}
	return p
}

// dialTime bounds the opening of a connection.
const dialTime = 5 * time.Second

// Begin accepts request m: it makes the server transaction and answers INVITE by 100.
// nil means that the request is known already and nothing is to be done.
func (p *Proxy) Begin(m *sip.Message) *Context {
	c := &Context{p: p}
	s, fresh := p.layer.Accept(m, c)
	if !fresh {
		return nil
	}
	c.server = s
	c.first.c = c
	if m.Method() == sip.INVITE {
		s.Respond(m, 100, nil)
	}
	return c
}

// Forward sends request m along plan. It is Begin and Go in one.
func (p *Proxy) Forward(m *sip.Message, plan *Plan) *Context {
	c := p.Begin(m)
	if c != nil {
		c.Go(m, plan)
	}
	return c
}

// Pass sends m on without state: an ACK for a 2xx (RFC 3261 §16.11). It reports
// whether there was a way.
func (p *Proxy) Pass(m *sip.Message, element string, t *Target) bool {
	f := t.Flow
	if f.Link == nil {
		for _, h := range t.Hops {
			if found, ok := p.dial.Find(element, h); ok {
				f = found
				break
			}
		}
	}
	if f.Link == nil {
		if len(t.Hops) == 0 {
			return false
		}
		go p.passLater(m.Clone(), *t)
		return true
	}
	return p.pass(m, f, t) == nil
}

func (p *Proxy) pass(m *sip.Message, f sip.Flow, t *Target) error {
	p.prepare(m, t)
	p.leaving(m, f)
	return p.layer.Pass(m, f)
}

func (p *Proxy) passLater(m *sip.Message, t Target) {
	defer p.survive()
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	for _, h := range t.Hops {
		if f, err := p.dial.Dial(ctx, h); err == nil {
			_ = p.pass(m, f, &t) // who waits for the ACK asks again
			return
		}
	}
}

// survive makes a panic cost one message only. It is for defer.
func (p *Proxy) survive() {
	if v := recover(); v != nil {
		p.panicked(v)
	}
}

// prepare makes the changes of RFC 3261 §16.6 steps 2, 3 and 6, the Via excepted.
func (p *Proxy) prepare(m *sip.Message, t *Target) {
	if t.URI != nil {
		m.SetRequestURI(t.URI)
	}
	n, ok, err := m.MaxForwards()
	if !ok || err != nil {
		n = 71
	}
	var num [4]byte
	m.Set(sip.HMaxForwards, strconv.AppendInt(num[:0], int64(max(n-1, 0)), 10))
	for i := len(t.Routes) - 1; i >= 0; i-- {
		m.Prepend(sip.HRoute, t.Routes[i])
	}
	if m.Has(sip.HRoute) {
		strict(m)
	}
	if t.Edit != nil {
		t.Edit(m)
	}
}

// strict gives a strict router what it wants: itself in the Request-URI, the target at the
// end of the Routes (RFC 3261 §16.6 step 6).
func strict(m *sip.Message) {
	a, err := sip.ParseAddress(m.First(sip.HRoute))
	if err != nil {
		return
	}
	if _, loose := a.URI.Param("lr"); loose {
		return
	}
	next := bytes.Clone(a.RawURI)
	last := append(append([]byte{'<'}, m.RequestURI()...), '>')
	m.PopFirst(sip.HRoute)
	m.Add(sip.HRoute, last)
	m.SetRequestURI(next)
}

// loop hashes what must have changed when a request comes by a second time
// (RFC 3261 §16.6 step 8, RFC 5393 §4.2.1).
func (p *Proxy) loop(m *sip.Message, element string) uint64 {
	var h maphash.Hash
	h.SetSeed(p.seed)
	h.WriteString(element)
	for _, b := range [...][]byte{m.RequestURI(), m.CallID(), m.FromTag(), m.ToTag(), m.Get(sip.HCSeq), m.Get(sip.HRoute), m.Get(sip.HProxyRequire)} {
		h.WriteByte(0)
		h.Write(b)
	}
	return h.Sum64() | 1
}

// Validate is RFC 3261 §16.3: what a proxy refuses before it looks at who a request
// is for. supported lists the option tags that it may be required to know.
func (p *Proxy) Validate(m *sip.Message, element string, supported ...string) error {
	n, ok, err := m.MaxForwards()
	if err != nil {
		return sip.Status(400, "Bad Max-Forwards")
	}
	if ok && n == 0 {
		return sip.Status(483, "")
	}
	if m.Count(sip.HProxyRequire) > 0 {
		for tag := range m.Values(sip.HProxyRequire) {
			if !has(supported, tag) {
				return sip.Status(420, "", "Unsupported: "+string(tag))
			}
		}
	}
	return p.looped(m, element)
}

func (p *Proxy) looped(m *sip.Message, element string) error {
	var sum uint64
	first := true
	for v := range m.Values(sip.HVia) {
		if first { // the sender's own
			first = false
			continue
		}
		via, err := sip.ParseVia(v)
		if err != nil {
			return sip.Status(400, "Bad Via")
		}
		if sum == 0 {
			sum = p.loop(m, element)
		}
		if p.layer.Looped(via.Branch, sum) {
			return sip.Status(482, "")
		}
	}
	// The topmost Via is ours when the request came straight back.
	if via, err := m.Via(); err == nil && len(via.Branch) > 40 {
		if p.layer.Looped(via.Branch, p.loop(m, element)) {
			return sip.Status(482, "")
		}
	}
	return nil
}

func has(list []string, tag []byte) bool {
	for _, s := range list {
		if string(tag) == s {
			return true
		}
	}
	return false
}
