package dialog

import (
	"strconv"

	"fernamt/wire/sdp"
	"fernamt/wire/sip"
)

// Invite says what call to make.
type Invite struct {
	Target string   // Request-URI
	From   string   // our address: "<sip:alice@example.test>", with or without display name
	To     string   // "": the target
	Media  Media    // nil: a call without any media
	Late   bool     // no offer in the INVITE: the peer makes it
	Lines  []string // more header lines, without line ends
}

// outgoing is our INVITE until it is over.
type outgoing struct {
	c    *Call
	x    *exchange
	seq  uint32
	legs map[string]*Dialog // by remote tag: a proxy may fork
	rseq map[string]uint32  // last reliable response of each leg
	late bool
	mine *sdp.Description // the offer of the INVITE
	want bool             // still wanted
	won  string           // remote tag of the leg that was answered first
}

// Invite begins a call. What happens to it comes as events.
func (a *Agent) Invite(i Invite) *Call {
	c := &Call{a: a, media: i.Media, outgoing: true, state: Calling, acks: map[string]func(){}}
	c.panic = a.c.Panic
	c.tags = partKey{token(20), token(10)}
	if i.To == "" {
		i.To = "<" + i.Target + ">"
	}
	m := sip.NewRequest("INVITE", i.Target)
	m.Set(sip.HMaxForwards, []byte("70"))
	m.Set(sip.HFrom, []byte(tagged(untagged([]byte(i.From)), c.tags.localTag)))
	m.Set(sip.HTo, []byte(untagged([]byte(i.To))))
	m.Set(sip.HCallID, []byte(c.tags.callID))
	m.Set(sip.HCSeq, cseq(1, "INVITE"))
	a.name(m)
	if a.c.Session > 0 { // RFC 4028 §7.1
		m.Set(sip.HSessionExpires, seconds(a.c.Session))
		m.Set(sip.HMinSE, seconds(a.c.MinSE))
	}
	setLines(m, i.Lines)
	c.req = m
	o := &outgoing{c: c, seq: 1, legs: map[string]*Dialog{}, rseq: map[string]uint32{}, late: i.Late || i.Media == nil, want: true}
	c.out = o
	c.publish()
	a.enter(c.tags.callID, c.tags.localTag, c)
	o.x = &exchange{a: a, on: &c.turn, req: m, heard: o.heard}
	o.x.seq = func() uint32 { o.seq++; return o.seq }
	o.x.sent = func(m *sip.Message, f sip.Flow) { m.Set(sip.HContact, []byte(a.c.Contact(f))) }
	c.do(o.start)
	return c
}

func (o *outgoing) start() {
	if !o.late {
		o.mine = o.c.media.Offer(o.c)
		o.c.offered = o.mine
		o.c.req.SetBody(sdp.ContentType, o.mine.Bytes())
	}
	o.x.start()
}

// cancel gives the call up. A 2xx that crosses our CANCEL is acknowledged and ended.
func (o *outgoing) cancel() {
	o.want = false
	o.x.cancel()
}

func (o *outgoing) heard(m *sip.Message, err error) {
	switch {
	case err != nil:
		o.failed(nil, codeOf(err))
	case m.StatusCode() < 200:
		o.progress(m)
	case m.StatusCode() < 300:
		o.success(m)
	case m.StatusCode() == 422 && o.want && o.x.tries < maxTries && o.longer(m):
	default:
		o.failed(m, m.StatusCode())
	}
}

// longer asks again with the interval that a 422 demands. RFC 4028 §7.4
func (o *outgoing) longer(m *sip.Message) bool {
	n, err := strconv.Atoi(string(m.Get(sip.HMinSE)))
	if err != nil || n <= 0 || n > 86400 {
		return false
	}
	v := []byte(strconv.Itoa(n))
	o.x.req.Set(sip.HSessionExpires, v)
	o.x.req.Set(sip.HMinSE, v)
	o.x.over = false
	o.x.again()
	return true
}

func (o *outgoing) failed(m *sip.Message, code int) {
	c := o.c
	if c.state == Up || c.state == Over {
		return // a branch that lost
	}
	c.tell(Event{Kind: Failed, Message: m, Code: code})
	c.end("failed", m, code)
}

// leg finds or makes the dialog that a response belongs to.
func (o *outgoing) leg(m *sip.Message) *Dialog {
	tag := string(m.ToTag())
	if tag == "" {
		return nil
	}
	if d := o.legs[tag]; d != nil {
		return d
	}
	if len(o.legs) >= 64 {
		return nil
	}
	d, err := FromResponse(m, string(o.c.req.Get(sip.HContact)), o.seq)
	if err != nil {
		return nil
	}
	o.legs[tag] = d
	return d
}

func (o *outgoing) progress(m *sip.Message) {
	c := o.c
	if c.state == Up || c.state == Over {
		return
	}
	d := o.leg(m)
	if d != nil {
		c.state = Early
		if m.HasToken(sip.HRequire, "100rel") && !o.prack(d, m) {
			return
		}
		if c.d == nil {
			c.d = d
		}
	}
	c.tell(Event{Kind: Progress, Message: m, Code: m.StatusCode()})
}

// prack acknowledges a reliable provisional response; false: it came before, or too early.
// RFC 3262 §4
func (o *outgoing) prack(d *Dialog, m *sip.Message) bool {
	n, err := strconv.ParseUint(string(m.Get(sip.HRSeq)), 10, 32)
	if err != nil {
		return true
	}
	if last, ok := o.rseq[d.RemoteTag]; ok && uint32(n) != last+1 {
		return false
	}
	o.rseq[d.RemoteTag] = uint32(n)
	p := d.Request("PRACK")
	p.Set(sip.HRAck, []byte(strconv.FormatUint(n, 10)+" "+strconv.FormatUint(uint64(o.seq), 10)+" INVITE"))
	if body := description(m); body != nil {
		if !o.late {
			o.c.agreed(o.mine, body)
		} else if answer := o.c.answer(body); answer != nil {
			p.SetBody(sdp.ContentType, answer.Bytes())
		}
	}
	x := &exchange{a: o.c.a, on: &o.c.turn, req: p, seq: func() uint32 { d.LocalSeq++; return d.LocalSeq }}
	x.heard = func(*sip.Message, error) {} // lost: the response comes again no more, the 2xx will
	o.c.a.name(p)
	x.start()
	return true
}

// success takes a 2xx: the first, the same again, or one of another branch.
func (o *outgoing) success(m *sip.Message) {
	c := o.c
	tag := string(m.ToTag())
	key := ackKey(tag, o.seq)
	if again := c.acks[key]; again != nil {
		again()
		return
	}
	d := o.leg(m)
	if d == nil { // no tag or no Contact: nothing to talk to
		o.failed(m, 500)
		return
	}
	d.Early = false
	d.route(m)
	d.Refresh(m)
	if c.state == Over || c.state == Up || !o.want { // RFC 3261 §13.2.2.4: acknowledge, then leave
		c.acks[key] = c.a.direct(d.build("ACK", o.seq))
		o.leave(d)
		return
	}
	o.won = tag
	c.d, c.state = d, Up
	ack := d.build("ACK", o.seq)
	body := description(m)
	switch {
	case body == nil:
	case !o.late:
		c.agreed(o.mine, body)
	default:
		if answer := c.answer(body); answer != nil {
			ack.SetBody(sdp.ContentType, answer.Bytes())
		} else if c.media != nil {
			defer c.bye("no media")
		}
	}
	c.acks[key] = c.a.direct(ack)
	c.peer(m)
	c.timed(m, true)
	c.tell(Event{Kind: Answered, Message: m, Code: m.StatusCode()})
}

// leave ends a dialog that came too late or too much.
func (o *outgoing) leave(d *Dialog) {
	b := d.Request("BYE")
	o.c.a.name(b)
	x := &exchange{a: o.c.a, on: &o.c.turn, req: b, seq: func() uint32 { d.LocalSeq++; return d.LocalSeq }}
	x.heard = func(*sip.Message, error) {}
	x.start()
	if o.c.state != Over && o.c.state != Up {
		o.c.tell(Event{Kind: Failed, Code: 487})
		o.c.end("cancelled", nil, 487)
	}
}

func ackKey(tag string, seq uint32) string { return tag + " " + strconv.FormatUint(uint64(seq), 10) }

// description reads the session description of a message; nil: it has none.
func description(m *sip.Message) *sdp.Description {
	if len(m.Body()) == 0 || mediaType(m.Get(sip.HContentType)) != sdp.ContentType {
		return nil
	}
	d, err := sdp.Parse(m.Body())
	if err != nil {
		return nil
	}
	return d
}

// agreed: the answer to our offer came.
func (c *Call) agreed(mine, theirs *sdp.Description) {
	c.offered = nil
	c.local, c.remote = mine, theirs
	if c.media != nil {
		c.media.Answered(c, theirs)
	}
}

// answer works out our answer to an offer; nil: there is none.
func (c *Call) answer(offer *sdp.Description) *sdp.Description {
	if c.media == nil {
		return nil
	}
	a, err := c.media.Answer(c, offer)
	if err != nil {
		return nil
	}
	c.local, c.remote = a, offer
	c.publish()
	return a
}

// peer remembers what the other side can do.
func (c *Call) peer(m *sip.Message) {
	if m.Get(sip.HAllow) != nil {
		c.allowUpdate = m.HasToken(sip.HAllow, "UPDATE")
	}
}
