package dialog

import (
	"strconv"
	"strings"

	"fernamt/wire/sdp"
	"fernamt/wire/sip"
)

// incoming is the INVITE of a call to us, until its 2xx is acknowledged.
type incoming struct {
	c        *Call
	req      *Request
	offer    *sdp.Description
	answered bool // our answer went out in a reliable provisional response
	rseq     uint32
	waiting  *resend // a reliable response that has no PRACK yet
	then     []func()
}

// incoming begins a call to us.
func (a *Agent) incoming(r *Request) {
	c := &Call{a: a, state: Calling, req: r.Message, acks: map[string]func(){}}
	c.panic = a.c.Panic
	c.tags = partKey{string(r.CallID()), r.tag}
	in := &incoming{c: c, req: r}
	c.in = in
	old, code := a.replaced(r.Message)
	if code == 0 && a.shortSession(r) {
		return
	}
	d, err := FromRequest(r.Message, r.tag, a.c.Contact(r.tx.Flow()))
	if code == 0 && err != nil {
		code = 400
	}
	if in.offer = description(r.Message); code == 0 && in.offer == nil && len(r.Body()) > 0 && !optional(r.Message) {
		code = 400 // a description that cannot be read
	}
	if code != 0 {
		r.Respond(code)
		return
	}
	c.d, c.replaced = d, old
	c.peer(r.Message)
	c.publish()
	a.enter(c.tags.callID, c.tags.localTag, c)
	c.do(func() {
		r.Respond(100)
		c.publish()
		a.c.User.Call(c)
	})
	gone := r.watch(func() { c.do(c.cancelled) }, nil)
	if gone {
		c.do(c.cancelled)
	}
}

func (c *Call) cancelled() {
	if c.state == Up || c.state == Over {
		return
	}
	if c.in.req.Respond(487) != nil {
		return
	}
	c.in.stop()
	c.tell(Event{Kind: Cancelled, Code: 487})
	c.end("cancelled", nil, 487)
}

func (in *incoming) stop() {
	if in.waiting != nil {
		in.waiting.stop()
		in.waiting = nil
	}
}

// Invite is the INVITE that began the call. Nobody may change it.
func (c *Call) Invite() *sip.Message { return c.req }

// Replaced is the call that this one takes the place of when it is accepted; nil: none.
func (c *Call) Replaced() *Call { return c.replaced }

// Ring says that the person is being called: a provisional response, 180 or 183. It is sent
// reliably when the caller demands it, or when early is given and the caller can do it; then
// it carries early's answer to the offer.
func (c *Call) Ring(code int, early Media) { c.do(func() { c.ring(code, early) }) }

func (c *Call) ring(code int, early Media) {
	in := c.in
	if in == nil || c.state == Up || c.state == Over {
		return
	}
	if c.media == nil {
		c.media = early
	}
	if in.waiting != nil { // RFC 3262 §3: one at a time
		in.then = append(in.then, func() { c.ring(code, early) })
		return
	}
	c.state = Early
	lines := []string{"Contact: " + c.d.Contact, "Allow: " + c.a.Allow()}
	must := in.req.HasToken(sip.HRequire, "100rel")
	if !must && !(early != nil && in.req.HasToken(sip.HSupported, "100rel")) {
		in.req.Respond(code, lines...)
		c.publish()
		return
	}
	var sd []byte
	if early != nil && in.offer != nil && !in.answered {
		a := c.answer(in.offer)
		if a == nil {
			c.reject(488, nil)
			return
		}
		in.answered, sd = true, a.Bytes()
	}
	if in.rseq == 0 {
		in.rseq = 100
	}
	in.rseq++
	lines = append(lines, "Require: 100rel", "RSeq: "+strconv.FormatUint(uint64(in.rseq), 10))
	b, err := in.req.send(code, sdp.ContentType, sd, lines)
	if err != nil {
		return
	}
	in.waiting = c.a.resend(&c.turn, func() { in.req.tx.Send(b, code) }, func() { c.reject(504, nil) })
	c.publish()
}

// pracked takes a PRACK. RFC 3262 §3
func (c *Call) pracked(r *Request) {
	in := c.in
	f := strings.Fields(string(r.Get(sip.HRAck)))
	if in == nil || in.waiting == nil || len(f) != 3 || f[0] != strconv.FormatUint(uint64(in.rseq), 10) {
		r.Respond(481)
		return
	}
	in.stop()
	r.Respond(200)
	then := in.then
	in.then = nil
	for _, f := range then {
		f()
	}
}

// Accept answers the call with 200. Each of lines is a whole header line.
func (c *Call) Accept(m Media, lines ...string) { c.do(func() { c.accept(m, lines) }) }

func (c *Call) accept(m Media, lines []string) {
	in := c.in
	if in == nil || c.state == Up || c.state == Over {
		return
	}
	if in.waiting != nil { // RFC 3262 §3: a 2xx waits for the PRACK
		in.then = append(in.then, func() { c.accept(m, lines) })
		return
	}
	if c.media == nil {
		c.media = m
	}
	var body []byte
	switch {
	case in.answered || c.media == nil:
	case in.offer != nil:
		a := c.answer(in.offer)
		if a == nil {
			c.reject(488, []string{`Warning: 304 fernamt "no media in common"`})
			return
		}
		body = a.Bytes()
	default:
		c.offered = c.media.Offer(c)
		body = c.offered.Bytes()
	}
	lines = append(lines, "Contact: "+c.d.Contact, "Allow: "+c.a.Allow(), "Supported: "+c.a.Supported())
	lines = append(lines, c.accepted(in.req.Message)...)
	b, err := in.req.send(200, sdp.ContentType, body, lines)
	if err != nil && b == nil {
		return
	}
	c.state = Up
	c.until2xx(in.req, b)
	c.publish()
	if c.replaced != nil { // RFC 3891 §3: the new call is up, the old one goes
		old := c.replaced
		old.do(func() { old.hangup("replaced") })
	}
}

// until2xx repeats a 2xx until its ACK comes; without any the call ends. RFC 3261 §13.3.1.4
func (c *Call) until2xx(r *Request, b []byte) {
	c.resend = c.a.resend(&c.turn, func() { r.tx.Send(b, 200) }, func() {
		c.resend = nil
		c.d.Early = false
		c.bye("no ACK")
	})
}

// acked takes the ACK for a 2xx of ours.
func (c *Call) acked(r *Request) {
	if c.resend == nil || c.d == nil || string(r.FromTag()) != c.d.RemoteTag {
		return // the same ACK again
	}
	c.resend.stop()
	then := c.resend.then
	c.resend = nil
	if body := description(r.Message); body != nil && c.offered != nil {
		c.agreed(c.offered, body)
	}
	c.offered = nil
	if c.in != nil && c.state == Up {
		c.in = nil
		c.d.Early = false
		c.tell(Event{Kind: Confirmed, Message: r.Message})
	}
	c.answering = nil
	if then != nil {
		then()
	}
	c.idle()
}

// Reject refuses the call. Each of lines is a whole header line.
func (c *Call) Reject(code int, lines ...string) { c.do(func() { c.reject(code, lines) }) }

func (c *Call) reject(code int, lines []string) {
	if c.in == nil || c.state == Up || c.state == Over {
		return
	}
	c.in.stop()
	c.in.req.Respond(code, lines...)
	c.end("rejected", nil, code)
}

// replaced finds the call that an INVITE wants to replace. code 0: go on. RFC 3891 §3
//
//	Replaces: <call-id>;to-tag=<ours>;from-tag=<the peer's>[;early-only]
func (a *Agent) replaced(m *sip.Message) (old *Call, code int) {
	if m.Get(sip.HReplaces) == nil {
		return nil, 0
	}
	if m.Count(sip.HReplaces) > 1 {
		return nil, 400
	}
	v := string(m.Get(sip.HReplaces))
	id, params, _ := strings.Cut(v, ";")
	p := []byte(";" + params)
	to, ok1 := sip.Param(p, "to-tag")
	from, ok2 := sip.Param(p, "from-tag")
	if !ok1 || !ok2 {
		return nil, 400
	}
	_, earlyOnly := sip.Param(p, "early-only")
	old, _ = a.find(strings.TrimSpace(id), string(to)).(*Call)
	if old == nil {
		return nil, 481
	}
	i := old.Info()
	switch {
	case i.RemoteTag != string(from):
		return nil, 481
	case i.State == Over:
		return nil, 603
	case i.State == Up && earlyOnly:
		return nil, 486
	case i.State != Up && !i.Outgoing:
		return nil, 481
	}
	return old, 0
}
