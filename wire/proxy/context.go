package proxy

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"fernamt/wire/clock"
	"fernamt/wire/sip"
	"fernamt/wire/transaction"
)

// Context is the response context of one request (RFC 3261 §16.2).
type Context struct {
	p      *Proxy
	server *transaction.Server

	mu       sync.Mutex
	plan     Plan
	orig     *sip.Message // own copy; nil when one try is all there is
	loop     uint64
	first    branch // the usual case needs no other
	more     []*branch
	next     int // first target that has not been tried
	group    int
	pending  int // branches without final response
	ring     clock.Timer
	best     best
	round    int // the best status since More was asked last
	final    int // status sent upstream
	over     bool
	ringing  bool // ring is set
	held     bool // More or Lost took the request
	heard    bool // of the targets tried since More was asked last one has said something
	canceled bool
}

// branch is one try at one target.
type branch struct {
	c      *Context
	client *transaction.Client
	target *Target
	hop    int
	timerC clock.Timer
	limit  int64 // timer C on the monotonic clock
	rang   bool
	used   bool
	done   bool
	cancel bool
}

// Server is the request's transaction.
func (c *Context) Server() *transaction.Server { return c.server }

// Request is the request as it came. Only a context whose plan has More, or more than
// one place to try, keeps it; else it is nil.
func (c *Context) Request() *sip.Message { return c.orig }

// Reply ends the context with a response of our own to m, its request.
func (c *Context) Reply(m *sip.Message, code int, extra []byte) {
	c.mu.Lock()
	c.answer(m, code, extra)
	c.mu.Unlock()
}

// Heard says whether any of the targets that were tried since More was asked last has
// rung or answered. It is for use within More.
func (c *Context) Heard() bool { return c.heard }

// Finish ends a context that More took over.
func (c *Context) Finish(code int, extra []byte) {
	c.mu.Lock()
	if c.canceled && code >= 300 {
		code = 487
	}
	c.answer(c.orig, code, extra)
	c.mu.Unlock()
}

// Resume sends a context that More took over to further targets.
func (c *Context) Resume(next []Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = false
	if c.canceled {
		c.answer(c.orig, 487, nil)
		return
	}
	c.plan.Targets = append(c.plan.Targets, next...)
	c.advance()
}

// answer sends a final response of our own; m may also be a response or the request
// as it was sent on, whose topmost Via has been removed.
func (c *Context) answer(m *sip.Message, code int, extra []byte) {
	if c.final != 0 || c.over {
		return
	}
	if c.silent(code) {
		c.final = code
		c.server.Abandon()
		return
	}
	if c.plan.Watch != nil {
		c.plan.Watch.Passing(c, code, nil, nil)
	}
	c.final = code
	c.server.Respond(m, code, extra)
}

// Survive makes a panic end this request alone, by 500. It is for defer on a goroutine
// that works for the request; m is the request as it came, nil when Go was called.
func (c *Context) Survive(m *sip.Message) {
	v := recover()
	if v == nil {
		return
	}
	c.p.panicked(v)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.orig != nil {
		m = c.orig
	}
	c.held, c.next = false, len(c.plan.Targets)
	c.each((*branch).giveUp)
	if m == nil || c.final != 0 || c.over {
		return
	}
	c.final = 500 // and no Watcher, which may be what panicked
	c.server.Respond(m, 500, nil)
}

// Go starts forwarding m along plan.
func (c *Context) Go(m *sip.Message, plan *Plan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.plan = *plan
	c.loop = c.p.loop(m, plan.Element)
	t := plan.Targets
	if c.canceled {
		c.answer(m, 487, nil)
		return
	}
	if len(t) == 1 && t[0].Flow.Link != nil && plan.More == nil && !c.rings(&t[0]) && !m.Has(sip.HMaxBreadth) {
		c.next, c.group = 1, t[0].Group
		b := c.branch(&c.plan.Targets[0])
		b.send(m, t[0].Flow)
		return
	}
	c.orig = m.Clone()
	c.plan.Targets = append([]Target(nil), t...)
	c.advance()
}

// rings says whether a clock runs for the target: what is no INVITE does not ring.
func (c *Context) rings(t *Target) bool {
	return (c.plan.Ring != 0 || t.Ring != 0) && c.server.Method() == sip.INVITE
}

func (c *Context) branch(t *Target) *branch {
	b := &c.first
	if b.used {
		b = &branch{c: c}
		c.more = append(c.more, b)
	}
	b.used, b.target = true, t
	c.pending++
	return b
}

// each calls f for every branch there is.
func (c *Context) each(f func(*branch)) {
	if c.first.used {
		f(&c.first)
	}
	for _, b := range c.more {
		f(b)
	}
}

// advance tries the next group of targets; when there is none, it asks for more or
// sends the best answer upstream.
func (c *Context) advance() {
	for c.pending == 0 && c.final == 0 && !c.held && !c.over {
		if c.next >= len(c.plan.Targets) {
			if c.plan.More == nil || c.canceled || c.best.code >= 600 {
				c.sendBest()
				return
			}
			code := c.round
			c.round = 0
			next, taken := c.plan.More(c, code)
			c.heard = false
			if taken {
				c.held = true
				return
			}
			if len(next) == 0 {
				c.sendBest()
				return
			}
			c.plan.Targets = append(c.plan.Targets, next...)
		}
		c.start()
	}
}

// start sends to all targets of the next group.
func (c *Context) start() {
	c.group = c.plan.Targets[c.next].Group
	from := c.next
	for c.next < len(c.plan.Targets) && c.plan.Targets[c.next].Group == c.group {
		c.next++
	}
	breadth := c.breadth()
	if breadth < c.next-from { // RFC 5393 §5.3.3
		c.take(440, nil)
		return
	}
	c.startRing(c.plan.Targets[from:c.next])
	n := c.next - from
	for i := from; i < c.next; i++ {
		b := c.branch(&c.plan.Targets[i])
		m := c.orig.Clone()
		if n > 1 || m.Has(sip.HMaxBreadth) {
			m.Set(sip.HMaxBreadth, strconv.AppendInt(nil, int64(breadth/n), 10))
		}
		b.try(m)
	}
}

// startRing sets how long the group may ring.
func (c *Context) startRing(group []Target) {
	c.stopRing()
	d := c.plan.Ring
	for i := range group {
		d = max(d, group[i].Ring)
	}
	if d > 0 && c.server.Method() == sip.INVITE {
		c.ringing = true
		c.ring.Owner = c
		c.p.wheel.Set(&c.ring, d, fireRing)
	}
}

// breadth is how many branches this request may still make (RFC 5393 §5.3).
func (c *Context) breadth() int {
	if v := c.orig.Get(sip.HMaxBreadth); v != nil {
		if n, err := strconv.Atoi(string(v)); err == nil && n >= 0 {
			return n
		}
	}
	return 60
}

// try sends over the target's flow or over the first hop that can be had.
func (b *branch) try(m *sip.Message) {
	t := b.target
	if t.Flow.Link != nil {
		b.send(m, t.Flow)
		return
	}
	for b.hop < len(t.Hops) {
		f, ok := b.c.p.dial.Find(b.c.plan.Element, t.Hops[b.hop])
		if !ok {
			go b.open(m, t.Hops[b.hop])
			return
		}
		if b.transmit(m, f) {
			return
		}
		b.hop++
		m = b.c.orig.Clone()
	}
	b.fail(b.goneCode())
}

// open dials on a goroutine of its own; the context's lock is not held meanwhile.
func (b *branch) open(m *sip.Message, h sip.Hop) {
	defer b.c.Survive(nil)
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	f, err := b.c.p.dial.Dial(ctx, h)
	cancel()
	c := b.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case b.done:
	case b.cancel || c.over:
		b.fail(487)
	case err == nil && b.transmit(m, f):
		return
	default:
		b.hop++
		b.try(c.orig.Clone())
	}
	c.advance()
}

func (b *branch) goneCode() int {
	if b.target.Gone != 0 {
		return b.target.Gone
	}
	return 503
}

// send is transmit for the only way there is.
func (b *branch) send(m *sip.Message, f sip.Flow) {
	if b.transmit(m, f) {
		return
	}
	b.fail(b.goneCode())
	if b.c.orig == nil {
		m.PopFirst(sip.HVia) // ours
		b.c.answerFor(m)
	}
}

// answerFor ends the only try with its failure, or has it taken over.
func (c *Context) answerFor(m *sip.Message) {
	if !c.lost(m, c.best.code) {
		c.answer(m, c.best.upstream(), nil)
	}
}

// lost says whether somebody takes over a request that no target took.
func (c *Context) lost(m *sip.Message, code int) bool {
	if c.plan.Lost == nil || m == nil || c.canceled || c.over || c.final != 0 || c.next == 0 {
		return false
	}
	c.held = c.plan.Lost(c, m, &c.plan.Targets[c.next-1], code)
	return c.held
}

// transmit makes the branch's client transaction.
func (b *branch) transmit(m *sip.Message, f sip.Flow) bool {
	c := b.c
	c.p.prepare(m, b.target)
	if c.plan.Record != nil {
		c.plan.Record(m, c.server.Flow(), f, b.target)
	}
	c.p.leaving(m, f)
	client, err := c.p.layer.RequestWithin(b.target.Ring, m, f, c.loop, b)
	if err != nil {
		return false
	}
	b.client = client
	if m.Method() == sip.INVITE {
		b.timerC.Owner = b
		b.limit = clock.Mono() + int64(c.p.timerC)
		c.p.wheel.SetAt(&b.timerC, b.limit, fireC)
	}
	return true
}

// fail books a branch's failure that no response brought.
func (b *branch) fail(code int) {
	if b.done {
		return
	}
	b.finish()
	b.c.take(code, nil)
}

// take books the outcome of a branch.
func (c *Context) take(code int, m *sip.Message) {
	c.best.take(code, m)
	if c.round == 0 || rank(code) < rank(c.round) {
		c.round = code
	}
}

func (b *branch) finish() {
	b.done = true
	b.c.pending--
	if b.limit != 0 {
		b.c.p.wheel.Stop(&b.timerC)
	}
}

// Response implements transaction.ClientUser.
func (b *branch) Response(t *transaction.Client, m *sip.Message) {
	c := b.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if t != b.client {
		return // a hop that was left behind
	}
	code := m.StatusCode()
	c.heard = c.heard || !b.done
	switch {
	case code < 200:
		b.rang = true
		if b.limit != 0 {
			b.limit = clock.Mono() + int64(c.p.timerC) // RFC 3261 §16.7 step 2; the wheel looks again when it fires
		}
		// RFC 4320 §4.1: nobody but who invites is told
		if c.final == 0 && !c.over && !b.done && c.server.Method() == sip.INVITE {
			c.forward(b, code, m)
		}
	case code < 300:
		c.success(b, code, m)
	default:
		b.refused(code, m)
	}
}

// success passes a 2xx at once and stops the others (RFC 3261 §16.7 steps 5 and 10).
func (c *Context) success(b *branch, code int, m *sip.Message) {
	if !b.done {
		b.finish()
	}
	if c.over || c.final >= 300 || (c.final != 0 && c.server.Method() != sip.INVITE) {
		return
	}
	c.final = code
	c.forward(b, code, m)
	if c.pending > 0 {
		c.each((*branch).giveUp)
	}
	c.stopRing()
}

// refused takes a final response of 300 or more.
func (b *branch) refused(code int, m *sip.Message) {
	c := b.c
	if b.done {
		return
	}
	if code == 503 && b.another() && c.final == 0 {
		b.hop++ // RFC 3263 §4.3
		b.client = nil
		b.try(c.orig.Clone())
		if !b.done {
			return
		}
		c.advance()
		return
	}
	b.finish()
	if c.final != 0 || c.over {
		return
	}
	if c.orig == nil && c.plan.Lost != nil && c.lostSent(code) {
		return
	}
	last := c.pending == 0 && c.next >= len(c.plan.Targets) && c.plan.More == nil && (c.orig == nil || c.plan.Lost == nil)
	if last && c.best.code == 0 && code != 503 && !c.silent(code) {
		c.final = code
		c.forward(b, code, m)
		c.stopRing()
		return
	}
	c.take(code, m)
	if code >= 600 {
		c.each((*branch).giveUp)
		c.next = len(c.plan.Targets)
	}
	if c.orig == nil {
		m.PopFirst(sip.HVia)
		c.answer(m, c.best.upstream(), nil)
		return
	}
	c.advance()
}

// another says whether there is one more hop to try (RFC 3263 §4.3).
func (b *branch) another() bool {
	return b.target.Flow.Link == nil && b.hop+1 < len(b.target.Hops) && !b.cancel
}

// silent says that a status is not sent upstream at all (RFC 4320 §4.2).
func (c *Context) silent(code int) bool { return code == 408 && c.server.Method() != sip.INVITE }

// Failed implements transaction.ClientUser.
func (b *branch) Failed(t *transaction.Client, err error) {
	c := b.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.done || t != b.client {
		return
	}
	if b.another() && !b.rang && c.final == 0 && !c.over {
		b.hop++
		b.try(c.orig.Clone())
		if !b.done {
			return
		}
	} else {
		code := 408
		if errors.Is(err, transaction.ErrTransport) {
			code = b.goneCode()
		}
		if b.cancel {
			code = 487
		}
		b.fail(code)
	}
	if c.orig == nil {
		c.answerSent(t)
		return
	}
	c.advance()
}

// answerSent answers from the request as it went out: nothing else is kept of it.
func (c *Context) answerSent(t *transaction.Client) {
	m := sent(t)
	if m == nil {
		c.server.Abandon()
		return
	}
	c.answerFor(m)
}

// lostSent is lost for the only target's refusal.
func (c *Context) lostSent(code int) bool { return c.lost(sent(c.first.client), code) }

// sent is the request as it went out, without our Via; nil when it is gone.
func sent(t *transaction.Client) *sip.Message {
	m := new(sip.Message)
	if m.Parse(t.Sent()) != nil {
		return nil
	}
	m.PopFirst(sip.HVia)
	return m
}

// sendBest ends the context with the best answer of all branches.
func (c *Context) sendBest() {
	c.stopRing()
	if c.lost(c.orig, c.best.code) {
		return
	}
	code := c.best.upstream()
	if c.canceled && code != 200 && code < 600 {
		code = 487
	}
	if c.best.m != nil && code == c.best.code && !c.silent(code) {
		m := c.best.m
		c.best.challenge(m)
		c.final = code
		c.pass(nil, code, m)
		return
	}
	c.answer(c.orig, code, nil)
}

// forward takes our Via off and sends a response upstream (RFC 3261 §16.7 steps 3, 9).
func (c *Context) forward(b *branch, code int, m *sip.Message) {
	m.PopFirst(sip.HVia)
	c.pass(b.target, code, m)
}

func (c *Context) pass(t *Target, code int, m *sip.Message) {
	if c.plan.Watch != nil {
		c.plan.Watch.Passing(c, code, m, t)
	}
	c.p.leaving(m, c.server.Flow())
	c.p.layer.Forward(c.server, m, code)
}

func (c *Context) stopRing() {
	if c.ringing {
		c.ringing = false
		c.p.wheel.Stop(&c.ring)
	}
}

// giveUp stops a branch that is still out.
func (b *branch) giveUp() {
	if b.done || b.cancel {
		return
	}
	b.cancel = true
	if b.client != nil {
		b.client.Cancel()
		if b.client.Method() != sip.INVITE {
			b.finish()
		}
	}
}

// Cancelled implements transaction.ServerUser (RFC 3261 §16.10).
func (c *Context) Cancelled(*transaction.Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.canceled = true
	c.next = len(c.plan.Targets)
	c.each((*branch).giveUp)
	if c.orig != nil && c.pending == 0 && !c.held {
		c.take(487, nil)
		c.advance()
	}
}

// Ended implements transaction.ServerUser.
func (c *Context) Ended(_ *transaction.Server, _ error) {
	c.mu.Lock()
	c.over = true
	if c.pending > 0 {
		c.each((*branch).giveUp)
	}
	c.stopRing()
	w, code := c.plan.Watch, c.final
	c.mu.Unlock()
	if w != nil {
		w.Over(c, code)
	}
}

func fireC(t *clock.Timer) { t.Owner.(*branch).expire(clock.Mono()) }

// expire is timer C (RFC 3261 §16.8).
func (b *branch) expire(now int64) {
	c := b.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.done {
		return
	}
	if b.limit > now {
		c.p.wheel.SetAt(&b.timerC, b.limit, fireC)
		return
	}
	b.giveUp()
}

func fireRing(t *clock.Timer) { t.Owner.(*Context).unanswered() }

// unanswered ends a group that rang in vain; the next one gets its turn.
func (c *Context) unanswered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.final != 0 || c.over || c.pending == 0 {
		return
	}
	c.each(func(b *branch) {
		if !b.done {
			b.giveUp()
			b.fail(408)
		}
	})
	c.advance()
}
