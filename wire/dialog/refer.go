package dialog

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"fernamt/wire/sip"
)

// Refer asks the peer of the call to call to. replaces, when not empty, is the value of the
// Replaces header that the new INVITE is to carry (Info.Replaces of another call): the
// attended transfer of RFC 5589 §7. How it goes comes as events Reply and Transfer; with
// quiet no progress is asked for (RFC 4488).
func (c *Call) Refer(to, replaces string, quiet bool) {
	c.do(func() {
		if c.d == nil || c.state != Up {
			c.tell(Event{Kind: Reply, Method: "REFER", Code: 481})
			return
		}
		m := c.d.Request("REFER")
		m.Set(sip.HReferTo, []byte(ReferTo(to, replaces)))
		m.Set(sip.HReferredBy, []byte(c.d.Local))
		if quiet {
			m.SetName("Refer-Sub", []byte("false"))
			m.Add(sip.HSupported, []byte("norefersub"))
		}
		c.send(m, c.reply("REFER"))
	})
}

// ReferTo writes a Refer-To value: the URI, and the header Replaces inside it when there is
// one. RFC 3891 §5
func ReferTo(uri, replaces string) string {
	if replaces == "" {
		return "<" + uri + ">"
	}
	return "<" + uri + "?Replaces=" + escape(replaces) + ">"
}

// escape writes what may not stand in a header of a URI as %XX. RFC 3261 §25.1 hvalue
func escape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.!~*'()[]/?:+$", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Referral is a REFER that somebody sent us. RFC 3515
type Referral struct {
	To       string // the URI to call
	Replaces string // value for the Replaces header of the new INVITE, or ""
	By       string // Referred-By, for the new INVITE, or ""
	c        *Call  // nil: outside a call
	n        *Notifier
	req      *Request
	id       string
	quiet    bool
	over     bool
	accepted bool
	queue    []fragment
	busy     bool
}

type fragment struct {
	text, state string
}

// referral reads a REFER; a code other than 0 is to be answered.
func referral(r *Request) (ref *Referral, code int) {
	if r.Count(sip.HReferTo) != 1 { // RFC 3515 §2.4.2
		return nil, 400
	}
	a, err := sip.ParseAddress(r.Get(sip.HReferTo))
	if err != nil || !a.URI.Is("sip") && !a.URI.Is("sips") && !a.URI.Is("tel") {
		return nil, 400
	}
	ref = &Referral{req: r, By: string(r.Get(sip.HReferredBy))}
	uri, headers, _ := strings.Cut(string(a.RawURI), "?")
	ref.To = uri
	for _, h := range strings.Split(headers, "&") {
		if name, v, ok := strings.Cut(h, "="); ok && strings.EqualFold(name, "Replaces") {
			ref.Replaces = unescape(v)
		}
	}
	n, _, _ := r.CSeq()
	ref.id = strconv.FormatUint(uint64(n), 10)
	ref.quiet = strings.EqualFold(strings.TrimSpace(string(r.GetName("Refer-Sub"))), "false")
	return ref, 0
}

func (c *Call) referred(r *Request) {
	ref, code := referral(r)
	if code == 0 && c.state != Up {
		code = 481
	}
	if code != 0 {
		r.Respond(code)
		return
	}
	ref.c = c
	c.tell(Event{Kind: Referred, Message: r.Message, Referral: ref})
}

// Accept says 202 and begins to report.
func (f *Referral) Accept() {
	if f.c == nil {
		f.accept()
		return
	}
	f.c.do(f.accept)
}

func (f *Referral) accept() {
	lines := []string{}
	if f.quiet {
		lines = append(lines, "Refer-Sub: false")
	}
	if f.c != nil {
		lines = append(lines, "Contact: "+f.c.d.Contact)
		f.req.Respond(202, lines...)
		f.accepted = true
		f.c.referrals = append(f.c.referrals, f)
		f.report(100)
		return
	}
	if f.quiet {
		f.req.Respond(202, lines...)
		return
	}
	f.n = f.req.Subscribe(202, time.Minute, lines...)
	f.report(100)
}

// Refuse answers the REFER with a failure.
func (f *Referral) Refuse(code int) { f.req.Respond(code) }

// Report tells the one who asked how far the new call is: a status. A final one is the last.
func (f *Referral) Report(code int) {
	if f.c == nil {
		f.report(code)
		return
	}
	f.c.do(func() { f.report(code) })
}

func (f *Referral) report(code int) {
	if f.quiet || f.over {
		return
	}
	state := "active;expires=60"
	if code >= 200 {
		f.over = true
		state = "terminated;reason=noresource" // RFC 3515 §2.4.7
	}
	text := fmt.Sprintf("SIP/2.0 %d %s\r\n", code, sip.ReasonOf(code))
	if f.n != nil {
		f.n.Notify("message/sipfrag;version=2.0", []byte(text))
		if f.over {
			f.n.End("noresource")
		}
		return
	}
	if f.c == nil {
		return
	}
	f.queue = append(f.queue, fragment{text, state})
	f.next()
}

// next sends one NOTIFY after the other, so that they arrive in order.
func (f *Referral) next() {
	if f.busy || len(f.queue) == 0 || f.c.state == Over {
		return
	}
	f.busy = true
	g := f.queue[0]
	f.queue = f.queue[1:]
	m := f.c.d.Request("NOTIFY")
	m.Set(sip.HEvent, []byte("refer;id="+f.id))
	m.Set(sip.HSubscriptionState, []byte(g.state))
	m.SetBody("message/sipfrag;version=2.0", []byte(g.text))
	f.c.send(m, func(m *sip.Message, err error) {
		if m != nil && m.StatusCode() < 200 {
			return
		}
		f.busy = false
		f.next()
	})
}

func (f *Referral) drop() { f.over, f.queue = true, nil }

// notified takes a NOTIFY inside the call: progress of our REFER. RFC 3515 §2.4.4
func (c *Call) notified(r *Request) {
	if !strings.EqualFold(eventName(r.Message), "refer") {
		r.Respond(481) // RFC 6665 §4.1.3: no subscription of ours
		return
	}
	code, ok := sipfrag(r.Body())
	if !ok {
		r.Respond(400)
		return
	}
	r.Respond(200)
	state, _ := subscriptionState(r.Message)
	c.tell(Event{Kind: Transfer, Message: r.Message, Code: code, Last: state == "terminated"})
}

// sipfrag reads the status line of a message/sipfrag. RFC 3420
func sipfrag(b []byte) (code int, ok bool) {
	f := strings.Fields(string(b[:min(len(b), 256)]))
	if len(f) < 2 || f[0] != "SIP/2.0" {
		return 0, false
	}
	n, err := strconv.Atoi(f[1])
	return n, err == nil && n >= 100 && n < 700
}

// resubscribed takes a SUBSCRIBE inside a call: the other end of a REFER may end it.
func (c *Call) resubscribed(r *Request) {
	id := eventID(r.Message)
	for _, f := range c.referrals {
		if strings.EqualFold(eventName(r.Message), "refer") && (id == f.id || id == "") && !f.over {
			n, ok, err := r.Expires()
			if err != nil {
				r.Respond(400)
				return
			}
			if ok && n == 0 {
				f.drop()
			}
			r.Respond(200, "Contact: "+c.d.Contact, "Expires: "+strconv.Itoa(min(n, 60)))
			return
		}
	}
	r.Respond(481)
}

// Referral reads a REFER that came outside a call; when it cannot be read it is answered
// and nil comes back.
func (r *Request) Referral() *Referral {
	ref, code := referral(r)
	if code != 0 {
		r.Respond(code)
		return nil
	}
	return ref
}
