// Package dialog is what sits above transactions at an end point: dialogs, calls,
// transfers and subscriptions.
//
// Specs: RFC 3261 §8, §12 to §15 (dialogs, calls), RFC 3262 (PRACK), RFC 3264 (offer and
// answer), RFC 3311 (UPDATE), RFC 3515 and RFC 4488 (REFER), RFC 3891 (Replaces), RFC 4028
// (session timers), RFC 5057 (several usages), RFC 6026 (2xx to INVITE), RFC 6665 (events).
//
// An Agent takes the requests of one transaction layer and hands them to what they belong
// to. Each Call, Subscription and Notifier has a turn: a queue of work of which at most one
// piece runs at any time, in order, on a goroutine that exists only while there is work.
// Everything of a Call that is not in its Info is touched on its turn only, so there is no
// lock in a call. The User is called on the turn of the thing concerned and may call any
// method of that thing: methods queue work and do not wait for it.
//
// The Agent's mutex guards its table of parts and its table of requests under way; it is
// held for look-ups only. No sockets are opened here and nothing is logged.
package dialog

import (
	"errors"
	"strconv"
	"strings"

	"fernamt/wire/sip"
)

// Dialog is the state of RFC 3261 §12: a plain value, guarded by whoever owns it.
type Dialog struct {
	CallID    string
	LocalTag  string
	RemoteTag string
	Local     string   // our From value, without tag
	Remote    string   // the peer's To value, without tag
	Contact   string   // our Contact value: where requests in this dialog reach us
	Target    string   // the peer's URI from its Contact
	Routes    []string // route set, in the order in which we use it
	LocalSeq  uint32   // CSeq number that our last request had
	RemoteSeq uint32   // CSeq number that the peer's last request had
	Heard     bool     // RemoteSeq means something
	Early     bool     // no 2xx yet
}

var errNoContact = errors.New("no Contact to send requests to")

// FromRequest makes the dialog that answering req with tag sets up. RFC 3261 §12.1.1
func FromRequest(req *sip.Message, tag, contact string) (*Dialog, error) {
	d := &Dialog{
		CallID: string(req.CallID()), LocalTag: tag, RemoteTag: string(req.FromTag()),
		Local: untagged(req.Get(sip.HTo)), Remote: untagged(req.Get(sip.HFrom)),
		Contact: contact, Heard: true, Early: true,
	}
	var err error
	if d.RemoteSeq, _, err = req.CSeq(); err != nil {
		return nil, err
	}
	for v := range req.Values(sip.HRecordRoute) {
		d.Routes = append(d.Routes, string(v))
	}
	if !req.Has(sip.HContact) { // RFC 2543 §4.2: then the sender's address has to do
		a, err := req.From()
		d.Target = string(a.RawURI)
		return d, err
	}
	return d, d.aim(req)
}

// FromResponse makes the dialog that a response to our request sets up; seq is the
// request's CSeq number. RFC 3261 §12.1.2
func FromResponse(resp *sip.Message, contact string, seq uint32) (*Dialog, error) {
	d := &Dialog{
		CallID: string(resp.CallID()), LocalTag: string(resp.FromTag()), RemoteTag: string(resp.ToTag()),
		Local: untagged(resp.Get(sip.HFrom)), Remote: untagged(resp.Get(sip.HTo)),
		Contact: contact, LocalSeq: seq, Early: resp.StatusCode() < 200,
	}
	d.route(resp)
	return d, d.aim(resp)
}

// route takes the route set of a response: Record-Route the other way round.
func (d *Dialog) route(resp *sip.Message) {
	d.Routes = nil
	for v := range resp.Values(sip.HRecordRoute) {
		d.Routes = append([]string{string(v)}, d.Routes...)
	}
}

// aim takes the peer's target from its Contact. RFC 3261 §12.2.1.2
func (d *Dialog) aim(m *sip.Message) error {
	c, err := m.Contact()
	if err != nil || len(c.RawURI) == 0 {
		if d.Target != "" {
			return nil
		}
		return errNoContact
	}
	d.Target = string(c.RawURI)
	return nil
}

// Request builds the next request in the dialog. RFC 3261 §12.2.1.1
func (d *Dialog) Request(method string) *sip.Message {
	if method != "ACK" && method != "CANCEL" {
		d.LocalSeq++
	}
	return d.build(method, d.LocalSeq)
}

func (d *Dialog) build(method string, seq uint32) *sip.Message {
	target, routes := d.Target, d.Routes
	if len(routes) > 0 && !loose(routes[0]) { // a strict router of RFC 2543
		first := routes[0]
		routes = append(append([]string(nil), routes[1:]...), "<"+target+">")
		if a, err := sip.ParseAddress([]byte(first)); err == nil {
			target = string(a.RawURI)
		}
	}
	m := sip.NewRequest(method, target)
	for _, r := range routes {
		m.Add(sip.HRoute, []byte(r))
	}
	m.Set(sip.HMaxForwards, []byte("70"))
	m.Set(sip.HFrom, []byte(tagged(d.Local, d.LocalTag)))
	m.Set(sip.HTo, []byte(tagged(d.Remote, d.RemoteTag)))
	m.Set(sip.HCallID, []byte(d.CallID))
	m.Set(sip.HCSeq, cseq(seq, method))
	if method != "ACK" && method != "BYE" && method != "PRACK" {
		m.Set(sip.HContact, []byte(d.Contact))
	}
	return m
}

func loose(route string) bool {
	a, err := sip.ParseAddress([]byte(route))
	if err != nil {
		return true
	}
	_, ok := a.URI.Param("lr")
	return ok
}

// Accept says whether the number of a request from the peer is in order and takes it. A
// request with an old number is answered 500. RFC 3261 §12.2.2
func (d *Dialog) Accept(m *sip.Message) bool {
	n, method, err := m.CSeq()
	if err != nil {
		return false
	}
	if method == sip.ACK || method == sip.CANCEL {
		return true
	}
	if d.Heard && n <= d.RemoteSeq {
		return false
	}
	d.RemoteSeq, d.Heard = n, true
	return true
}

// Refresh takes a new target from a target refresh request or its 2xx.
func (d *Dialog) Refresh(m *sip.Message) { _ = d.aim(m) }

// Is says whether the tags are this dialog's, as the header Replaces names it. RFC 3891 §3
func (d *Dialog) Is(callID, localTag, remoteTag string) bool {
	if remoteTag == "0" && d.RemoteTag == "" {
		remoteTag = ""
	}
	return d.CallID == callID && d.LocalTag == localTag && d.RemoteTag == remoteTag
}

// Replaces gives the value of a Replaces header that names this dialog to its other end,
// or to somebody the other end sends on to us.
func (d *Dialog) Replaces() string {
	return d.CallID + ";to-tag=" + d.RemoteTag + ";from-tag=" + d.LocalTag
}

func cseq(n uint32, method string) []byte {
	return append(append(strconv.AppendUint(nil, uint64(n), 10), ' '), method...)
}

func tagged(value, tag string) string {
	if tag == "" {
		return value
	}
	return value + ";tag=" + tag
}

// untagged cuts the tag parameter out of a From or To value and leaves the rest as it is.
// A bare URI gets brackets, so that a tag can be put behind it.
func untagged(v []byte) string {
	s := strings.TrimSpace(string(v))
	end := headerParams(s)
	head, params := s[:end], s[end:]
	if !strings.Contains(head, "<") {
		head = "<" + strings.TrimSpace(head) + ">"
	}
	var out strings.Builder
	out.WriteString(strings.TrimSpace(head))
	for _, p := range strings.Split(params, ";") {
		name, _, _ := strings.Cut(strings.TrimSpace(p), "=")
		if p = strings.TrimSpace(p); p != "" && !strings.EqualFold(strings.TrimSpace(name), "tag") {
			out.WriteString(";" + p)
		}
	}
	return out.String()
}

// headerParams gives the place of the first header parameter: the first semicolon that is
// neither quoted nor inside brackets.
func headerParams(s string) int {
	quoted, inside := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '<':
			inside = true
		case c == '>':
			inside = false
		case c == ';' && !inside:
			return i
		}
	}
	return len(s)
}
