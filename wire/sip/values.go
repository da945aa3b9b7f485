package sip

import "iter"

// Get gives the whole value of the first field h, folding undone; nil if there is none.
// An empty value is not nil.
func (m *Message) Get(h Header) []byte {
	if i := m.find(h); i >= 0 {
		return m.value(i)
	}
	return nil
}

// GetName gives the first field of any name, long or compact, in any case.
func (m *Message) GetName(name string) []byte {
	if h := HeaderOf([]byte(name)); h != HOther {
		return m.Get(h)
	}
	if i := m.findName(name, 0); i >= 0 {
		return m.value(i)
	}
	return nil
}

// Has says whether a field h is there.
func (m *Message) Has(h Header) bool { return m.have.has(h) }

// Count gives the number of fields h, not of their elements.
func (m *Message) Count(h Header) int {
	if !m.twice.has(h) {
		if m.have.has(h) {
			return 1
		}
		return 0
	}
	n := 0
	t := m.table()
	for i := range t {
		if t[i].id == h {
			n++
		}
	}
	return n
}

// Values gives each element of all fields h in order; commas within quotes and angle
// brackets do not divide. Empty elements are left out. Do not edit h meanwhile.
func (m *Message) Values(h Header) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) { m.values(h, yield) }
}

func (m *Message) values(h Header, yield func([]byte) bool) {
	for i := m.find(h); i >= 0 && i < m.n; i++ {
		if m.table()[i].id != h {
			continue
		}
		rest, more := m.value(i), true
		for more {
			var e []byte
			if e, rest, more = nextElement(rest); len(e) > 0 && !yield(e) {
				return
			}
		}
	}
}

// First gives the first element of the first field h, nil if there is none.
func (m *Message) First(h Header) []byte {
	if i := m.find(h); i >= 0 {
		e, _, _ := nextElement(m.value(i))
		return e
	}
	return nil
}

// Fields gives names and values in order, folding undone.
func (m *Message) Fields() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for i := 0; i < m.n; i++ {
			v := m.value(i)
			if !yield(m.name(&m.table()[i]), v) {
				return
			}
		}
	}
}

// HasToken says whether a list such as Supported, Require or Allow holds the token, in
// any case of its letters.
func (m *Message) HasToken(h Header, token string) bool {
	for v := range m.Values(h) {
		if equalFold(v, token) {
			return true
		}
	}
	return false
}

// Unsupported gives the elements of h (Require, Proxy-Require) that are not among known,
// as the value of an Unsupported header; nil when all are known.
// RFC 3261 §8.2.2.3, §16.3
func (m *Message) Unsupported(h Header, known ...string) []byte {
	var out []byte
next:
	for v := range m.Values(h) {
		for _, k := range known {
			if equalFold(v, k) {
				continue next
			}
		}
		if out != nil {
			out = append(out, ", "...)
		}
		out = append(out, v...)
	}
	return out
}

// Via reads the topmost Via element.
func (m *Message) Via() (Via, error) {
	v := m.First(HVia)
	if v == nil {
		return Via{}, errNoVia
	}
	return ParseVia(v)
}

// From reads the From header.
func (m *Message) From() (Address, error) { return m.address(HFrom) }

// To reads the To header.
func (m *Message) To() (Address, error) { return m.address(HTo) }

// Contact reads the first Contact element; errors say so when there is none.
func (m *Message) Contact() (Address, error) { return m.address(HContact) }

func (m *Message) address(h Header) (Address, error) {
	v := m.First(h)
	if v == nil {
		return Address{}, errAbsent
	}
	return ParseAddress(v)
}

// FromTag gives the tag of From, nil if there is none.
func (m *Message) FromTag() []byte { return m.tag(HFrom) }

// ToTag gives the tag of To, nil if there is none.
func (m *Message) ToTag() []byte { return m.tag(HTo) }

func (m *Message) tag(h Header) []byte {
	v, _ := Param(paramsOf(m.Get(h)), "tag")
	return v
}

// CallID gives the Call-ID.
func (m *Message) CallID() []byte { return m.Get(HCallID) }

// CSeq reads number and method.
// RFC 3261 §20.16
func (m *Message) CSeq() (uint32, Method, error) {
	n, name, ok := splitCSeq(m.Get(HCSeq))
	if !ok {
		return 0, Other, errCSeq
	}
	return n, MethodOf(name), nil
}

func splitCSeq(b []byte) (n uint32, method []byte, ok bool) {
	i := span(b, 0, cDigit)
	x, good := number(b[:i], 1<<31-1)
	if !good {
		return 0, nil, false
	}
	s := skip(b, i)
	if s == i {
		return 0, nil, false
	}
	e := span(b, s, cToken)
	if e == s || e != len(b) {
		return 0, nil, false
	}
	return uint32(x), b[s:e], true
}

// MaxForwards reads Max-Forwards, 0 to 255; ok says that it is there.
func (m *Message) MaxForwards() (n int, ok bool, err error) {
	v, ok, good := m.number(HMaxForwards, 255)
	if !good {
		return 0, ok, errHops
	}
	return v, ok, nil
}

// Expires reads Expires in seconds, 0 to 2^32-1; ok says that it is there.
func (m *Message) Expires() (n int, ok bool, err error) {
	v, ok, good := m.number(HExpires, 1<<32-1)
	if !good {
		return 0, ok, errExpires
	}
	return v, ok, nil
}

func (m *Message) number(h Header, max uint64) (n int, ok, good bool) {
	i := m.find(h)
	if i < 0 {
		return 0, false, true
	}
	v, good := number(m.value(i), max)
	return int(v), true, good
}
