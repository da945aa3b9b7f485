package dialog

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"fernamt/wire/sip"
)

// Subscribe says what to subscribe to. RFC 6665 §4.1
type Subscribe struct {
	Target  string // Request-URI
	From    string // our address
	To      string // "": the target
	Event   string // the package, with parameters: "presence", "dialog;id=4"
	Accept  string // types of bodies, "" for the package's default
	Expires time.Duration
	Type    string // of Body
	Body    []byte
	Lines   []string // more header lines
}

// Subscription is a subscription of ours: refreshed until it is ended by either side.
type Subscription struct {
	turn
	a     *Agent
	tags  partKey
	event string

	// The turn's.
	first   *sip.Message // the SUBSCRIBE that began it
	d       *Dialog
	seq     uint32
	expires time.Duration
	round   int
	pending *exchange
	over    bool
	ending  bool

	infoMu sync.Mutex
	state  string
}

// Subscribe begins a subscription. What happens comes as events: Active for each accepted
// SUBSCRIBE, Notified, at last Ended with the reason that the notifier gave.
func (a *Agent) Subscribe(w Subscribe) *Subscription {
	s := &Subscription{a: a, tags: partKey{token(20), token(10)}, event: w.Event, expires: w.Expires}
	s.panic = a.c.Panic
	if w.To == "" {
		w.To = "<" + w.Target + ">"
	}
	m := sip.NewRequest("SUBSCRIBE", w.Target)
	m.Set(sip.HMaxForwards, []byte("70"))
	m.Set(sip.HFrom, []byte(tagged(untagged([]byte(w.From)), s.tags.localTag)))
	m.Set(sip.HTo, []byte(untagged([]byte(w.To))))
	m.Set(sip.HCallID, []byte(s.tags.callID))
	m.Set(sip.HCSeq, cseq(1, "SUBSCRIBE"))
	m.Set(sip.HEvent, []byte(w.Event))
	m.Set(sip.HExpires, seconds(w.Expires))
	if w.Accept != "" {
		m.Set(sip.HAccept, []byte(w.Accept))
	}
	a.name(m)
	setLines(m, w.Lines)
	if len(w.Body) > 0 {
		m.SetBody(w.Type, w.Body)
	}
	s.first, s.seq = m, 1
	a.enter(s.tags.callID, s.tags.localTag, s)
	s.do(func() { s.send(m, func() uint32 { s.seq++; return s.seq }) })
	return s
}

// State is the notifier's word: "", "pending", "active" or "terminated".
func (s *Subscription) State() string {
	s.infoMu.Lock()
	defer s.infoMu.Unlock()
	return s.state
}

// Refresh subscribes again now.
func (s *Subscription) Refresh() { s.do(s.refresh) }

// End unsubscribes. RFC 6665 §4.1.2.3
func (s *Subscription) End() {
	s.do(func() {
		if !s.over {
			s.ending, s.expires = true, 0
			s.refresh()
		}
	})
}

func (s *Subscription) queue() *turn { return &s.turn }

func (s *Subscription) refresh() {
	if s.over || s.pending != nil {
		return
	}
	if s.d == nil {
		if s.ending {
			s.end("unsubscribed", nil, 0)
		}
		return
	}
	m := s.d.Request("SUBSCRIBE")
	m.Set(sip.HEvent, []byte(s.event))
	m.Set(sip.HExpires, seconds(s.expires))
	if v := s.first.Get(sip.HAccept); v != nil {
		m.Set(sip.HAccept, v)
	}
	s.a.name(m)
	s.send(m, func() uint32 { s.d.LocalSeq++; return s.d.LocalSeq })
}

func (s *Subscription) send(m *sip.Message, seq func() uint32) {
	x := &exchange{a: s.a, on: &s.turn, req: m, seq: seq}
	if s.d == nil {
		x.sent = func(m *sip.Message, f sip.Flow) { m.Set(sip.HContact, []byte(s.a.c.Contact(f))) }
	}
	x.heard = func(m *sip.Message, err error) { s.heard(x, m, err) }
	s.pending = x
	x.start()
}

func (s *Subscription) heard(x *exchange, m *sip.Message, err error) {
	if s.over || m != nil && m.StatusCode() < 200 {
		return
	}
	s.pending = nil
	code := codeIn(m, err)
	switch {
	case code/100 == 2:
		s.granted(m)
	case code == 423 && x.tries < maxTries && s.longer(x, m): // RFC 6665 §4.1.2.1
	case s.d == nil || code == 481 || code == 408 && s.ending || s.ending: // RFC 6665 §4.1.2.2
		s.end("failed", m, code)
	default: // what was granted before stays valid until it runs out
		s.again(30 * time.Second)
	}
}

func (s *Subscription) longer(x *exchange, m *sip.Message) bool {
	n, err := strconv.Atoi(string(m.Get(sip.HMinExpires)))
	if err != nil || n <= 0 || n > 1<<30 {
		return false
	}
	s.expires = time.Duration(n) * time.Second
	x.req.Set(sip.HExpires, seconds(s.expires))
	x.over = false
	s.pending = x
	x.again()
	return true
}

func (s *Subscription) granted(m *sip.Message) {
	if s.d == nil {
		d, err := FromResponse(m, string(s.first.Get(sip.HContact)), s.seq)
		if err != nil {
			s.end("failed", m, 500)
			return
		}
		d.Early = false
		s.d = d
	} else if s.d.RemoteTag == string(m.ToTag()) {
		s.d.Refresh(m)
	}
	got := s.expires
	if n, ok, err := m.Expires(); ok && err == nil {
		got = min(got, time.Duration(n)*time.Second)
	}
	s.a.c.User.Event(Event{Kind: Active, Subscription: s, Message: m, Code: m.StatusCode()})
	if s.ending || got == 0 {
		// RFC 6665 §4.1.2.4 timer N: the last NOTIFY is still to come.
		s.round++
		round := s.round
		s.after(64*s.a.c.T1, func() {
			if s.round == round {
				s.end("unsubscribed", nil, 0)
			}
		})
		return
	}
	s.again(got)
}

// again sets the next refresh, some time before the subscription runs out.
func (s *Subscription) again(left time.Duration) {
	s.round++
	round := s.round
	wait := left - left/10
	if left > 2*time.Minute {
		wait = left - time.Minute
	}
	s.after(max(wait, time.Second), func() {
		if s.round == round {
			s.refresh()
		}
	})
}

// request takes a NOTIFY. It may come before the 2xx. RFC 6665 §4.1.3
func (s *Subscription) request(r *Request) {
	if r.Method() != sip.NOTIFY {
		if r.Method() != sip.ACK {
			r.Respond(481)
		}
		return
	}
	want, _, _ := strings.Cut(s.event, ";")
	if s.over || !strings.EqualFold(eventName(r.Message), strings.TrimSpace(want)) {
		r.Respond(481)
		return
	}
	if s.d == nil && !s.adopt(r) || s.d.RemoteTag != string(r.FromTag()) {
		r.Respond(481) // another branch: one is enough, RFC 6665 §4.4.1
		return
	}
	if !s.d.Accept(r.Message) {
		r.Respond(500, "Retry-After: 1")
		return
	}
	if r.Get(sip.HSubscriptionState) == nil {
		r.Respond(400)
		return
	}
	s.d.Refresh(r.Message)
	r.Respond(200)
	state, params := subscriptionState(r.Message)
	s.infoMu.Lock()
	s.state = state
	s.infoMu.Unlock()
	s.a.c.User.Event(Event{Kind: Notified, Subscription: s, Message: r.Message, Last: state == "terminated"})
	if state == "terminated" {
		reason, _ := sip.Param([]byte(params), "reason")
		s.end(string(reason), r.Message, 0)
		return
	}
	if v, ok := sip.Param([]byte(params), "expires"); ok && !s.ending {
		if n, err := strconv.ParseUint(string(v), 10, 31); err == nil && n > 0 {
			s.again(time.Duration(n) * time.Second)
		}
	}
}

// adopt makes the dialog from a NOTIFY that overtook the 2xx.
func (s *Subscription) adopt(r *Request) bool {
	d, err := FromRequest(r.Message, s.tags.localTag, string(s.first.Get(sip.HContact)))
	if err != nil {
		return false
	}
	d.Heard, d.Early, d.LocalSeq = false, false, s.seq
	s.d = d
	return true
}

func (s *Subscription) end(reason string, m *sip.Message, code int) {
	if s.over {
		return
	}
	s.over = true
	s.round++
	s.a.leave(s.tags.callID, s.tags.localTag, s)
	s.a.c.User.Event(Event{Kind: Ended, Subscription: s, Message: m, Reason: reason, Code: code})
}

// subscriptionState reads "<state>;<params>". params begin with a semicolon.
func subscriptionState(m *sip.Message) (state, params string) {
	v, p, _ := strings.Cut(string(m.Get(sip.HSubscriptionState)), ";")
	return strings.ToLower(strings.TrimSpace(v)), ";" + p
}
