package dialog

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"fernamt/wire/sdp"
	"fernamt/wire/sip"
)

// State is how far a call is.
type State uint8

// The states of a call.
const (
	Calling State = iota + 1 // begun, nothing heard; a call to us: not yet answered
	Early                    // a dialog without 2xx
	Up                       // a 2xx went one way or the other
	Over
)

// String gives the state's name.
func (s State) String() string { return [...]string{"", "calling", "early", "up", "over"}[s] }

// Media makes and takes session descriptions for calls. Its methods run on the call's turn.
type Media interface {
	// Offer gives the first offer.
	Offer(c *Call) *sdp.Description
	// Answer gives the answer to an offer, or an error: 488 for the peer.
	Answer(c *Call, offer *sdp.Description) (*sdp.Description, error)
	// Answered brings the answer to our offer.
	Answered(c *Call, answer *sdp.Description)
}

// Fixed is the Media of a side whose abilities do not change.
type Fixed sdp.Session

// Offer gives an offer of everything.
func (f Fixed) Offer(*Call) *sdp.Description { return sdp.Session(f).Offer() }

// Answer follows RFC 3264.
func (f Fixed) Answer(c *Call, offer *sdp.Description) (*sdp.Description, error) {
	s := sdp.Session(f)
	if l := c.Info().LocalSDP; l != nil { // the version must grow with each description
		if o, err := l.Origin(); err == nil {
			s.ID, s.Version = o.ID, o.Version+1
		}
	}
	return s.Answer(offer)
}

// Answered does nothing.
func (f Fixed) Answered(*Call, *sdp.Description) {}

// Info is what others may know of a call: a copy.
type Info struct {
	State     State
	Outgoing  bool
	CallID    string
	LocalTag  string
	RemoteTag string
	Local     string // our address as in From or To, without tag
	Remote    string // the peer's
	Target    string // where requests to the peer go
	LocalSDP  *sdp.Description
	RemoteSDP *sdp.Description
	Replaces  string // value for a Replaces header that names this call
	Session   time.Duration
}

// Call is an INVITE usage: RFC 3261 §13 to §15.
type Call struct {
	turn
	a     *Agent
	media Media
	tags  partKey // what requests inside it are found by

	infoMu sync.Mutex
	info   Info

	// The rest is the turn's.
	state    State
	outgoing bool
	d        *Dialog
	req      *sip.Message // the INVITE that began it

	out *outgoing // a call of ours, until its INVITE is over
	in  *incoming // a call to us, until its INVITE is over

	local, remote *sdp.Description  // as agreed
	offered       *sdp.Description  // our offer that has no answer yet
	pending       *exchange         // our re-INVITE or UPDATE
	answering     *Request          // the peer's re-INVITE that waits for its ACK
	resend        *resend           // our 2xx until its ACK
	later         []func()          // our changes that wait for an answer
	acks          map[string]func() // our ACKs by remote tag and number: for a 2xx that comes again
	timer         session
	referrals     []*Referral
	replaced      *Call
	allowUpdate   bool
}

// Data about a call that others may read at any time.
func (c *Call) publish() {
	i := Info{State: c.state, Outgoing: c.outgoing, CallID: c.tags.callID, LocalTag: c.tags.localTag,
		LocalSDP: c.local, RemoteSDP: c.remote, Session: c.timer.interval}
	if c.d != nil {
		i.RemoteTag, i.Local, i.Remote = c.d.RemoteTag, c.d.Local, c.d.Remote
		i.Target, i.Replaces = c.d.Target, c.d.Replaces()
	} else if c.req != nil {
		i.Local, i.Remote = untagged(c.req.Get(sip.HFrom)), untagged(c.req.Get(sip.HTo))
		if !c.outgoing {
			i.Local, i.Remote = i.Remote, i.Local
		}
	}
	c.infoMu.Lock()
	c.info = i
	c.infoMu.Unlock()
}

// Info gives the call as it is.
func (c *Call) Info() Info {
	c.infoMu.Lock()
	defer c.infoMu.Unlock()
	return c.info
}

func (c *Call) queue() *turn { return &c.turn }

func (c *Call) tell(e Event) {
	c.publish()
	e.Call = c
	c.a.c.User.Event(e)
}

// end is the last thing that happens to a call.
func (c *Call) end(reason string, m *sip.Message, code int) {
	if c.state == Over {
		return
	}
	c.state = Over
	c.timer.stop()
	if c.resend != nil {
		c.resend.stop()
	}
	for _, r := range c.referrals {
		r.drop()
	}
	c.a.leave(c.tags.callID, c.tags.localTag, c)
	c.tell(Event{Kind: Ended, Message: m, Code: code, Reason: reason})
}

// Hangup ends the call, whatever it takes: BYE, CANCEL or a refusal.
func (c *Call) Hangup() { c.do(func() { c.hangup("hangup") }) }

func (c *Call) hangup(reason string) {
	switch {
	case c.state == Over:
	case c.out != nil && c.state != Up:
		c.out.cancel()
	case c.in != nil && c.state != Up:
		c.reject(603, nil)
	default:
		c.bye(reason)
	}
}

// bye leaves a dialog that is up. RFC 3261 §15.1.1
func (c *Call) bye(reason string) {
	if c.resend != nil && c.d.Early {
		c.resend.then = func() { c.bye(reason) } // a callee waits for the ACK first
		return
	}
	c.send(c.d.Request("BYE"), nil)
	c.end(reason, nil, 0)
}

// send puts a request inside the dialog on its way. done may be nil; m is nil when no
// response comes.
func (c *Call) send(m *sip.Message, done func(m *sip.Message, err error)) *exchange {
	x := &exchange{a: c.a, on: &c.turn, req: m, seq: func() uint32 { c.d.LocalSeq++; return c.d.LocalSeq }}
	c.a.name(m)
	x.heard = func(m *sip.Message, err error) {
		if done != nil {
			done(m, err)
		}
		// RFC 5057 §5.1, §6: these end the whole dialog.
		gone := err != nil && codeOf(err) == 408 || m != nil && (m.StatusCode() == 481 || m.StatusCode() == 408)
		if gone && c.state == Up {
			c.end("gone", m, codeIn(m, err))
		}
	}
	x.start()
	return x
}

func codeIn(m *sip.Message, err error) int {
	if m == nil {
		return codeOf(err)
	}
	return m.StatusCode()
}

// Send sends any request inside the call's dialog: INFO, MESSAGE and the like. The final
// response comes as the event Reply. Each of lines is a whole header line without its end.
func (c *Call) Send(method, contentType string, body []byte, lines ...string) {
	c.do(func() {
		if c.d == nil || c.state == Over {
			c.tell(Event{Kind: Reply, Method: method, Code: 481})
			return
		}
		m := c.d.Request(method)
		setLines(m, lines)
		if len(body) > 0 {
			m.SetBody(contentType, body)
		}
		c.send(m, c.reply(method))
	})
}

func (c *Call) reply(method string) func(*sip.Message, error) {
	return func(m *sip.Message, err error) {
		if m != nil && m.StatusCode() < 200 {
			return
		}
		c.tell(Event{Kind: Reply, Method: method, Message: m, Code: codeIn(m, err)})
	}
}

func setLines(m *sip.Message, lines []string) {
	for _, l := range lines {
		if name, v, ok := strings.Cut(l, ":"); ok {
			m.SetName(name, []byte(strings.TrimSpace(v)))
		}
	}
}

// name puts in what every request of ours says about us.
func (a *Agent) name(m *sip.Message) {
	if a.c.Name != "" {
		m.Set(sip.HUserAgent, []byte(a.c.Name))
	}
	switch m.Method() {
	case sip.INVITE, sip.UPDATE, sip.REFER, sip.SUBSCRIBE:
		m.Set(sip.HSupported, []byte(a.Supported()))
		m.Set(sip.HAllow, []byte(a.Allow()))
	}
}

// request takes a request inside the call's dialog.
func (c *Call) request(r *Request) {
	if r.Method() == sip.ACK {
		c.acked(r)
		return
	}
	d := c.dialogOf(r)
	if d == nil || c.state == Over {
		r.Respond(481)
		return
	}
	if !d.Accept(r.Message) {
		r.Respond(500, "Retry-After: 1")
		return
	}
	switch r.Method() {
	case sip.BYE:
		c.byed(r)
	case sip.INVITE:
		c.reinvited(r)
	case sip.UPDATE:
		c.updated(r)
	case sip.PRACK:
		c.pracked(r)
	case sip.REFER:
		c.referred(r)
	case sip.NOTIFY:
		c.notified(r)
	case sip.OPTIONS:
		r.Respond(200, "Allow: "+c.a.Allow(), "Accept: "+sdp.ContentType, "Supported: "+c.a.Supported())
	case sip.SUBSCRIBE:
		c.resubscribed(r)
	default:
		r.Respond(200)
		c.tell(Event{Kind: Inside, Message: r.Message, Method: string(r.MethodName())})
	}
}

// dialogOf finds the dialog that a request names; a call of ours may have several early
// ones.
func (c *Call) dialogOf(r *Request) *Dialog {
	tag := string(r.FromTag())
	if c.d != nil && c.d.RemoteTag == tag {
		return c.d
	}
	if c.out != nil {
		return c.out.legs[tag]
	}
	return nil
}

func (c *Call) byed(r *Request) {
	r.Respond(200)
	if c.in != nil && c.state != Up { // RFC 3261 §15.1.2: what is not answered yet gets 487
		c.in.req.Respond(487)
	}
	if c.answering != nil {
		c.answering.Respond(487)
	}
	c.end("bye", r.Message, 0)
}

// String names the call for people.
func (c *Call) String() string {
	i := c.Info()
	return fmt.Sprintf("call %s with %s, %s", i.CallID, i.Remote, i.State)
}
