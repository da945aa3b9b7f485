package sip

import "bytes"

// single lists the headers that may stand only once.
// RFC 3261 §7.3.1
var single = maskOf(HFrom, HTo, HCallID, HCSeq, HMaxForwards, HExpires, HContentLength, HContentType, HEvent,
	HSubscriptionState, HReferTo, HReferredBy, HReplaces, HJoin, HSessionExpires, HMinSE, HMinExpires, HRSeq, HRAck,
	HDate, HTimestamp, HSIPETag, HSIPIfMatch, HContentDisposition, HMIMEVersion, HRetryAfter, HTargetDialog)

// needed lists the headers that each message has. Max-Forwards is missing from old clients.
// RFC 3261 §8.1.1
var needed = [...]struct {
	h   Header
	err *Error
}{{HVia, errNoVia}, {HFrom, errNoFrom}, {HTo, errNoTo}, {HCallID, errNoCallID}, {HCSeq, errNoCSeq}}

// Check refuses what is wrong in itself, whoever it is for: missing and repeated headers,
// numbers out of range, bad syntax of Request-URI, Via, From, To, Contact, routes and
// CSeq, another method in CSeq. Of a response it looks only at what a proxy needs. What
// a role decides (416, 420, 415, 483 ...) passes. The error is an *Error; wrong responses
// and ACKs say Drop. It allocates nothing for a message that is right and has no folds.
func (m *Message) Check() error {
	if e := m.check(); e != nil {
		return m.verdict(e)
	}
	return nil
}

func (m *Message) check() *Error {
	for i := range needed {
		if !m.have.has(needed[i].h) {
			return needed[i].err
		}
	}
	if m.twice[0]&single[0] != 0 || m.twice[1]&single[1] != 0 {
		return errTwice
	}
	if m.code == 0 {
		var u URI
		if u.parse(m.RequestURI()) != nil {
			return errURI
		}
		if u.Headers != nil { // RFC 3261 §19.1.1: none in a Request-URI
			return errURIHeader
		}
	}
	var seen counts
	for i := range m.n {
		if e := m.checkField(i, &seen); e != nil {
			return e
		}
	}
	return nil
}

// counts holds the number of elements met so far.
type counts struct{ vias, contacts, routes, recorded int }

func (m *Message) checkField(i int, seen *counts) *Error {
	switch m.table()[i].id {
	case HVia:
		return m.checkVia(m.value(i), &seen.vias)
	case HFrom:
		return checkOne(m.value(i), errFrom)
	case HTo:
		return checkOne(m.value(i), errTo)
	case HContact:
		return m.checkList(i, &seen.contacts, listRule{MaxContact, errManyCont, errContact})
	case HRoute:
		return m.checkList(i, &seen.routes, listRule{MaxRoutes, errManyRoute, errRoute})
	case HRecordRoute:
		return m.checkList(i, &seen.recorded, listRule{MaxRoutes, errManyRoute, errRoute})
	case HCallID:
		return checkCallID(m.value(i))
	case HCSeq:
		_, name, ok := splitCSeq(m.value(i))
		if !ok {
			return errCSeq
		}
		if m.code == 0 && !bytes.Equal(name, m.cut(m.word)) {
			return errMismatch
		}
	case HMaxForwards:
		if _, ok := number(m.value(i), 255); !ok {
			return errHops
		}
	case HExpires:
		if _, ok := number(m.value(i), 1<<32-1); !ok && m.code == 0 {
			return errExpires
		}
	case HDate:
		if v := m.value(i); m.code == 0 && !bytes.HasSuffix(v, gmt) { // RFC 3261 §20.17
			return errDate
		}
	}
	return nil
}

var gmt = []byte("GMT")

// checkVia reads the topmost element in full and counts the others.
func (m *Message) checkVia(v []byte, n *int) *Error {
	for more := true; more; {
		var e []byte
		if e, v, more = nextElement(v); len(e) == 0 {
			return errVia
		}
		if *n++; *n > MaxVias {
			return errManyVia
		}
		if *n > 1 {
			continue
		}
		var via Via
		if via.parse(e) != nil || string(via.Version) != "2.0" {
			return errVia
		}
		if string(via.Branch) == MagicCookie { // RFC 4475 §3.2.1
			return errBranch
		}
	}
	return nil
}

// checkOne checks From or To: exactly one address.
func checkOne(v []byte, bad *Error) *Error {
	var a Address
	if a.parse(v) != nil || a.Star() {
		return bad
	}
	return nil
}

// listRule says how many elements a list may have and what is wrong otherwise.
type listRule struct {
	max       int
	many, bad *Error
}

func (m *Message) checkList(i int, n *int, r listRule) *Error {
	v := m.value(i)
	for more := true; more; {
		var e []byte
		e, v, more = nextElement(v)
		if *n++; *n > r.max {
			return r.many
		}
		if m.code != 0 { // a call shall not fail by what only its ends look at
			continue
		}
		var a Address
		if a.parse(e) != nil {
			return r.bad
		}
		if a.Star() && (m.method != REGISTER || r.max != MaxContact) {
			return r.bad
		}
		if r.max == MaxRoutes && !a.Angle { // RFC 3261 §20.30
			return r.bad
		}
		if r.max == MaxContact && !goodExpires(a.Params) {
			return r.bad
		}
	}
	return nil
}

// goodExpires checks the expires parameter of a Contact.
func goodExpires(params []byte) bool {
	if len(params) == 0 {
		return true
	}
	v, ok := Param(params, "expires")
	if !ok {
		return true
	}
	_, good := number(v, 1<<32-1)
	return good
}

func checkCallID(v []byte) *Error {
	if len(v) == 0 {
		return errCallID
	}
	for _, c := range v {
		if c <= ' ' || c == 0x7f {
			return errCallID
		}
	}
	return nil
}
