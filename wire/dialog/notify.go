package dialog

import (
	"strconv"
	"time"

	"fernamt/wire/sip"
)

// Notifier is somebody's subscription to us. RFC 6665 §4.2
type Notifier struct {
	turn
	a     *Agent
	tags  partKey
	event string

	// The turn's.
	d       *Dialog
	until   time.Time
	pending bool   // the person has not consented yet
	reason  string // not empty: ended, tell so in the next NOTIFY
	over    bool
	busy    bool
	waiting []notice
	round   int
}

type notice struct {
	contentType string
	body        []byte
}

// noticesWaiting bounds what waits for a slow subscriber; the oldest go first.
const noticesWaiting = 32

// Subscribe accepts a SUBSCRIBE (or a REFER outside a call) with code 200 or 202 for the
// given time. The User then sends the first Notify. nil: the request cannot begin anything,
// and is answered.
func (r *Request) Subscribe(code int, expires time.Duration, lines ...string) *Notifier {
	contact := r.a.c.Contact(r.tx.Flow())
	d, err := FromRequest(r.Message, r.tag, contact)
	if err != nil {
		r.Respond(400)
		return nil
	}
	d.Early = false
	event := string(r.Get(sip.HEvent))
	if r.Method() == sip.REFER {
		event = "refer"
	}
	n := &Notifier{a: r.a, tags: partKey{d.CallID, d.LocalTag}, event: event, d: d}
	n.panic = r.a.c.Panic
	r.a.enter(d.CallID, d.LocalTag, n)
	if r.Method() != sip.REFER {
		lines = append(lines, "Expires: "+string(seconds(expires)))
	}
	r.Respond(code, append(lines, "Contact: "+contact)...)
	n.do(func() { n.extend(expires) })
	return n
}

// Wanted gives the time that a SUBSCRIBE asks for, fallback when it does not say.
func (r *Request) Wanted(fallback time.Duration) time.Duration {
	if n, ok, err := r.Expires(); ok && err == nil {
		return time.Duration(n) * time.Second
	}
	return fallback
}

func (n *Notifier) queue() *turn { return &n.turn }

func (n *Notifier) extend(d time.Duration) {
	n.until = time.Now().Add(d)
	n.round++
	round := n.round
	n.after(d, func() {
		if n.round == round {
			n.finish("timeout")
		}
	})
}

// Notify sends a state. States queue up while the subscriber is slow.
func (n *Notifier) Notify(contentType string, body []byte) {
	n.do(func() {
		if n.over || n.reason != "" {
			return
		}
		if len(n.waiting) == noticesWaiting {
			n.waiting = n.waiting[1:]
		}
		n.waiting = append(n.waiting, notice{contentType, body})
		n.next()
	})
}

// Pending says whether the subscription waits for consent.
func (n *Notifier) Pending(p bool) { n.do(func() { n.pending = p }) }

// End ends the subscription: "deactivated", "rejected", "noresource", ... RFC 6665 §4.1.3
func (n *Notifier) End(reason string) { n.do(func() { n.finish(reason) }) }

func (n *Notifier) finish(reason string) {
	if n.over || n.reason != "" {
		return
	}
	n.reason = reason
	if len(n.waiting) == 0 {
		n.waiting = append(n.waiting, notice{})
	}
	n.next()
}

func (n *Notifier) next() {
	if n.busy || n.over || len(n.waiting) == 0 {
		return
	}
	n.busy = true
	w := n.waiting[0]
	n.waiting = n.waiting[1:]
	m := n.d.Request("NOTIFY")
	m.Set(sip.HEvent, []byte(n.event))
	left := max(0, time.Until(n.until).Round(time.Second))
	state := "active;expires=" + string(seconds(left))
	if n.pending {
		state = "pending;expires=" + string(seconds(left))
	}
	last := n.reason != "" && len(n.waiting) == 0
	if last {
		state = "terminated;reason=" + n.reason
	}
	m.Set(sip.HSubscriptionState, []byte(state))
	n.a.name(m)
	if len(w.body) > 0 {
		m.SetBody(w.contentType, w.body)
	}
	x := &exchange{a: n.a, on: &n.turn, req: m, seq: func() uint32 { n.d.LocalSeq++; return n.d.LocalSeq }}
	x.heard = func(m *sip.Message, err error) {
		if m != nil && m.StatusCode() < 200 {
			return
		}
		n.busy = false
		code := codeIn(m, err)
		switch { // RFC 6665 §4.2.2
		case last || code == 481 || code == 408 || code == 489:
			n.end(code)
		default:
			n.next()
		}
	}
	x.start()
}

func (n *Notifier) end(code int) {
	if n.over {
		return
	}
	n.over = true
	n.round++
	n.a.leave(n.tags.callID, n.tags.localTag, n)
	n.a.c.User.Event(Event{Kind: Ended, Notifier: n, Reason: n.reason, Code: code})
}

// request takes what the subscriber sends: SUBSCRIBE again.
func (n *Notifier) request(r *Request) {
	switch {
	case r.Method() == sip.ACK:
		return
	case n.over || n.reason != "" || string(r.FromTag()) != n.d.RemoteTag:
		r.Respond(481)
		return
	case !n.d.Accept(r.Message):
		r.Respond(500, "Retry-After: 1")
		return
	case r.Method() != sip.SUBSCRIBE:
		r.Respond(405, "Allow: SUBSCRIBE, NOTIFY")
		return
	}
	d := r.Wanted(time.Until(n.until))
	n.d.Refresh(r.Message)
	r.Respond(200, "Expires: "+strconv.Itoa(int(d/time.Second)), "Contact: "+n.d.Contact)
	if d == 0 { // RFC 6665 §4.2.1.4
		n.until = time.Now()
		n.round++
	} else {
		n.extend(d)
	}
	n.a.c.User.Event(Event{Kind: Refresh, Notifier: n, Message: r.Message, Last: d == 0})
	if d == 0 {
		n.finish("timeout")
	}
}
