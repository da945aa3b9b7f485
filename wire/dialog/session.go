package dialog

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"fernamt/wire/sdp"
	"fernamt/wire/sip"
)

// session is the session timer of a call. RFC 4028. Turn of its call only.
type session struct {
	interval time.Duration // zero: none
	mine     bool          // we refresh
	timer    *time.Timer
	round    int // each refresh starts another; old timers see that they are old
}

func (s *session) stop() {
	s.round++
	if s.timer != nil {
		s.timer.Stop()
	}
}

func seconds(d time.Duration) []byte { return strconv.AppendInt(nil, int64(d/time.Second), 10) }

// sessionExpires reads "<seconds>[;refresher=uac|uas]".
func sessionExpires(m *sip.Message) (d time.Duration, refresher string) {
	v, params, _ := strings.Cut(string(m.Get(sip.HSessionExpires)), ";")
	n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 31)
	if err != nil {
		return 0, ""
	}
	r, _ := sip.Param([]byte(";"+params), "refresher")
	return time.Duration(n) * time.Second, strings.ToLower(string(r))
}

// shortSession refuses an interval below our minimum. RFC 4028 §9
func (a *Agent) shortSession(r *Request) bool {
	d, _ := sessionExpires(r.Message)
	if d == 0 || d >= a.c.MinSE || !r.HasToken(sip.HSupported, "timer") {
		return false
	}
	r.Respond(422, "Min-SE: "+string(seconds(a.c.MinSE)))
	return true
}

// accepted works out the session timer of a request that we answer 2xx and gives the header
// lines for that. RFC 4028 §9
func (c *Call) accepted(req *sip.Message) []string {
	c.timer.stop()
	d, refresher := sessionExpires(req)
	can := req.HasToken(sip.HSupported, "timer")
	if d == 0 {
		d = c.a.c.Session
	}
	if d == 0 {
		c.timer.interval = 0
		return nil
	}
	if refresher == "" || !can {
		refresher = "uas"
	}
	c.timer.interval, c.timer.mine = d, refresher == "uas"
	c.arm()
	lines := []string{"Session-Expires: " + string(seconds(d)) + ";refresher=" + refresher}
	if can {
		lines = append(lines, "Require: timer")
	}
	return lines
}

// timed takes the session timer that a 2xx grants us. RFC 4028 §7.2
func (c *Call) timed(m *sip.Message, uac bool) {
	c.timer.stop()
	d, refresher := sessionExpires(m)
	if d == 0 {
		c.timer.interval = 0
		return
	}
	c.timer.interval = d
	c.timer.mine = (refresher != "uas") == uac
	c.arm()
}

// arm: the refresher acts at half time, the other gives up a little before the end.
// RFC 4028 §10
func (c *Call) arm() {
	s := &c.timer
	round := s.round
	wait := s.interval / 2
	act := c.refresh
	if !s.mine {
		wait = s.interval - min(32*time.Second, s.interval/3)
		act = func() { c.bye("session timer") }
	}
	s.timer = c.after(wait, func() {
		if s.round == round && c.state == Up {
			act()
		}
	})
}

func (c *Call) refresh() {
	if c.allowUpdate {
		c.change(change{method: "UPDATE"})
		return
	}
	c.change(change{method: "INVITE", offer: c.local})
}

// Reoffer offers other media inside the call, by re-INVITE. The result comes as the event
// Reply with Method INVITE. Lines are whole header lines.
func (c *Call) Reoffer(d *sdp.Description, lines ...string) {
	c.do(func() { c.change(change{"INVITE", d, lines}) })
}

// Update offers other media by UPDATE, which works before the call is answered too.
// RFC 3311
func (c *Call) Update(d *sdp.Description) {
	c.do(func() { c.change(change{method: "UPDATE", offer: d}) })
}

// Hold puts the peer on hold, or takes it off hold. RFC 3264 §8.4
func (c *Call) Hold(on bool) {
	c.do(func() {
		if c.local == nil {
			c.tell(Event{Kind: Reply, Method: "INVITE", Code: 488})
			return
		}
		c.change(change{method: "INVITE", offer: c.local.Hold(on)})
	})
}

// change is a re-INVITE or UPDATE of ours.
type change struct {
	method string
	offer  *sdp.Description // nil: none
	lines  []string
}

// change sends a change, or keeps it until what goes on is over.
func (c *Call) change(p change) {
	method, d := p.method, p.offer
	if c.state == Up && (c.pending != nil || c.answering != nil || c.resend != nil) && len(c.later) < 8 {
		c.later = append(c.later, func() { c.change(p) }) // RFC 3264 §4: one offer at a time
		return
	}
	if c.d == nil || c.state == Over || method == "INVITE" && c.state != Up || c.pending != nil || c.offered != nil {
		c.tell(Event{Kind: Reply, Method: method, Code: 491})
		return
	}
	m := c.d.Request(method)
	seq := c.d.LocalSeq
	if c.timer.interval > 0 {
		v := string(seconds(c.timer.interval))
		who := map[bool]string{true: "uac", false: "uas"}[c.timer.mine]
		m.Set(sip.HSessionExpires, []byte(v+";refresher="+who))
		m.Set(sip.HMinSE, seconds(c.a.c.MinSE))
	}
	setLines(m, p.lines)
	if d != nil {
		m.SetBody(sdp.ContentType, d.Bytes())
		c.offered = d
	}
	var x *exchange
	x = c.send(m, func(resp *sip.Message, err error) {
		if resp != nil && resp.StatusCode() < 200 {
			return
		}
		if n, _, e := x.req.CSeq(); e == nil {
			seq = n
		}
		c.changed(p, seq, resp, err)
	})
	if !x.over {
		c.pending = x
	}
}

// changed takes the final response to change.
func (c *Call) changed(p change, seq uint32, m *sip.Message, err error) {
	method, d := p.method, p.offer
	code := codeIn(m, err)
	key := ackKey(c.d.RemoteTag, seq)
	if again := c.acks[key]; again != nil && code/100 == 2 {
		again()
		return
	}
	c.pending, c.offered = nil, nil
	if code/100 == 2 {
		c.d.Refresh(m)
		if method == "INVITE" {
			if len(c.acks) > 16 {
				clear(c.acks) // those INVITEs are long over
			}
			c.acks[key] = c.a.direct(c.d.build("ACK", seq))
		}
		c.peer(m)
		c.timed(m, true)
		if body := description(m); body != nil && d != nil {
			c.agreed(d, body)
		}
	}
	if code == 491 && c.state == Up { // RFC 3261 §14.1: who made the call waits longer
		wait := time.Duration(rand.IntN(200)) * 10 * time.Millisecond
		if c.outgoing {
			wait = 2100*time.Millisecond + time.Duration(rand.IntN(190))*10*time.Millisecond
		}
		c.after(wait, func() { c.change(p) })
		return
	}
	c.tell(Event{Kind: Reply, Method: method, Message: m, Code: code})
	c.idle()
}

// idle does one thing that had to wait until an offer had its answer.
func (c *Call) idle() {
	if len(c.later) > 0 && c.state == Up {
		f := c.later[0]
		c.later = c.later[1:]
		f()
	}
}

// reinvited takes a re-INVITE. RFC 3261 §14.2
func (c *Call) reinvited(r *Request) {
	switch {
	case c.in != nil && c.resend == nil: // the first INVITE has no final response yet
		r.Respond(500, "Retry-After: "+strconv.Itoa(rand.IntN(10)))
		return
	case c.state != Up || c.pending != nil && c.pending.req.Method() == sip.INVITE || c.offered != nil:
		r.Respond(491)
		return
	}
	if c.a.shortSession(r) {
		return
	}
	if c.resend != nil { // the ACK of the INVITE before was lost; this one says that it arrived
		c.acked(&Request{Message: r.Message, a: c.a})
	}
	lines := []string{"Contact: " + c.d.Contact, "Allow: " + c.a.Allow(), "Supported: " + c.a.Supported()}
	body, ok := c.reanswer(r, true)
	if !ok {
		return
	}
	lines = append(lines, c.accepted(r.Message)...)
	b, err := r.send(200, sdp.ContentType, body, lines)
	if err != nil {
		return
	}
	c.d.Refresh(r.Message)
	c.answering = r
	c.until2xx(r, b)
	c.tell(Event{Kind: Updated, Message: r.Message})
}

// reanswer works out what goes back to a changed offer, or our offer when there is none.
func (c *Call) reanswer(r *Request, offer bool) (body []byte, ok bool) {
	d := description(r.Message)
	switch {
	case d != nil:
		a := c.answer(d)
		if a == nil {
			r.Respond(488)
			return nil, false
		}
		return a.Bytes(), true
	case len(r.Body()) > 0 && !optional(r.Message):
		r.Respond(400)
		return nil, false
	case offer && c.local != nil:
		c.offered = c.local.Next()
		return c.offered.Bytes(), true
	}
	return nil, true
}

// updated takes an UPDATE. RFC 3311 §5.2
func (c *Call) updated(r *Request) {
	if len(r.Body()) > 0 {
		switch {
		case c.offered != nil || c.pending != nil:
			r.Respond(491)
			return
		case c.in != nil && c.in.offer != nil && !c.in.answered && c.state != Up:
			r.Respond(500, "Retry-After: "+strconv.Itoa(rand.IntN(10)))
			return
		}
	}
	if c.a.shortSession(r) {
		return
	}
	body, ok := c.reanswer(r, false)
	if !ok {
		return
	}
	lines := []string{"Contact: " + c.d.Contact, "Allow: " + c.a.Allow(), "Supported: " + c.a.Supported()}
	if c.state == Up {
		lines = append(lines, c.accepted(r.Message)...)
	}
	if r.RespondBody(200, sdp.ContentType, body, lines...) == nil {
		c.d.Refresh(r.Message)
		c.tell(Event{Kind: Updated, Message: r.Message})
	}
}
