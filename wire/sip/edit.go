package sip

import (
	"bytes"
	"strconv"
)

// Edits append whole lines to the buffer and change places in the table. Line breaks in
// a value become blanks, so that no value can bring a header of its own.

// line appends "Name: value" and gives its field.
func (m *Message) line(h Header, name string, v []byte) field {
	f := field{id: h, name: uint32(len(m.buf)), nlen: uint16(len(name))}
	m.buf = append(m.buf, name...)
	m.buf = append(m.buf, ": "...)
	f.value = uint32(len(m.buf))
	m.buf = append(m.buf, v...)
	m.closeLine(&f)
	return f
}

// closeLine ends the line that f's value was just written to.
func (m *Message) closeLine(f *field) {
	v := m.buf[f.value:]
	if bytes.IndexByte(v, '\n') >= 0 || bytes.IndexByte(v, '\r') >= 0 {
		for i, c := range v {
			if c == '\r' || c == '\n' {
				v[i] = ' '
			}
		}
	}
	f.end = uint32(len(m.buf))
	m.buf = append(m.buf, '\r', '\n')
}

// insert puts f before field i.
func (m *Message) insert(i int, f field) {
	m.push(f)
	t := m.table()
	copy(t[i+1:], t[i:len(t)-1])
	t[i] = f
}

// drop takes field i out.
func (m *Message) drop(i int) {
	t := m.table()
	h := t[i].id
	copy(t[i:], t[i+1:])
	m.n--
	if m.many {
		m.more = m.more[:m.n]
	}
	left := 0
	for _, f := range m.table() {
		if f.id == h {
			left++
		}
	}
	if left < 2 {
		m.twice.del(h)
	}
	if left == 0 {
		m.have.del(h)
	}
}

// SetRequestURI gives a request another URI.
func (m *Message) SetRequestURI(u []byte) {
	from := uint32(len(m.buf))
	m.buf = append(m.buf, u...)
	m.target = cut{from, uint32(len(m.buf))}
	for i, c := range m.buf[from:] {
		if isSpace(c) {
			m.buf[int(from)+i] = '_'
		}
	}
	m.fresh = false
}

// Set makes v the only value of h, in the place of its first field or else at the end.
func (m *Message) Set(h Header, v []byte) { m.set(m.find(h), m.line(h, headerNames[h], v)) }

// SetName is Set for a header of any name.
func (m *Message) SetName(name string, v []byte) {
	if h := HeaderOf([]byte(name)); h != HOther {
		m.Set(h, v)
		return
	}
	m.set(m.findName(name, 0), m.line(HOther, name, v))
}

func (m *Message) set(i int, f field) {
	if i < 0 {
		m.push(f)
		return
	}
	m.table()[i] = f
	if !m.twice.has(f.id) {
		return
	}
	for j := m.n - 1; j > i; j-- {
		if g := &m.table()[j]; g.id == f.id && (f.id != HOther || m.sameName(g, &f)) {
			m.drop(j)
		}
	}
}

func (m *Message) sameName(f, g *field) bool { return equalFold(m.name(f), m.name(g)) }

// Add puts a field behind all others.
func (m *Message) Add(h Header, v []byte) { m.push(m.line(h, headerNames[h], v)) }

// AddName is Add for a header of any name.
func (m *Message) AddName(name string, v []byte) {
	if h := HeaderOf([]byte(name)); h != HOther {
		m.Add(h, v)
		return
	}
	m.push(m.line(HOther, name, v))
}

// Prepend puts a field before the first of its kind; a first Via at the top, another
// first of its kind behind the Vias.
func (m *Message) Prepend(h Header, v []byte) {
	f := m.line(h, headerNames[h], v)
	i := m.find(h)
	if i < 0 {
		i = 0
		if h != HVia {
			for t := m.table(); i < len(t) && t[i].id == HVia; {
				i++
			}
		}
	}
	m.insert(i, f)
}

// Remove takes all fields h out. HOther is no single kind: it stays.
func (m *Message) Remove(h Header) {
	if h == HOther || !m.have.has(h) {
		return
	}
	t := m.table()
	k := 0
	for i := range t {
		if t[i].id != h {
			t[k] = t[i]
			k++
		}
	}
	m.n = k
	if m.many {
		m.more = m.more[:k]
	}
	m.have.del(h)
	m.twice.del(h)
}

// RemoveName takes all fields of any name out.
func (m *Message) RemoveName(name string) {
	if h := HeaderOf([]byte(name)); h != HOther {
		m.Remove(h)
		return
	}
	for i := m.findName(name, 0); i >= 0; i = m.findName(name, i) {
		m.drop(i)
	}
}

// PopFirst takes the first element of h out: our Via from a response, the Route that
// points at us.
func (m *Message) PopFirst(h Header) {
	i := m.find(h)
	if i < 0 {
		return
	}
	_, rest, _ := nextElement(m.value(i))
	if rest = trim(rest); len(rest) == 0 {
		m.drop(i)
		return
	}
	m.table()[i] = m.line(h, headerNames[h], rest)
}

// ReplaceFirst gives the first element of h another text and leaves those behind it.
func (m *Message) ReplaceFirst(h Header, v []byte) {
	i := m.find(h)
	if i < 0 {
		m.Add(h, v)
		return
	}
	_, rest, _ := nextElement(m.value(i))
	f := m.line(h, headerNames[h], v)
	if rest = trim(rest); len(rest) > 0 {
		m.buf = append(m.buf[:f.end], ", "...)
		m.buf = append(m.buf, rest...)
		m.closeLine(&f)
	}
	m.table()[i] = f
}

// SetBody replaces the body; an empty contentType takes Content-Type and body away.
// Content-Length follows when the message is written.
func (m *Message) SetBody(contentType string, body []byte) {
	if contentType == "" {
		m.Remove(HContentType)
		m.body = cut{}
		return
	}
	m.Set(HContentType, []byte(contentType))
	from := uint32(len(m.buf))
	m.buf = append(m.buf, body...)
	m.body = cut{from, uint32(len(m.buf))}
}

// StampVia writes into the topmost Via of a request where it really came from: received
// when the host differs or rport was asked for, and rport's value. What the sender wrote
// there himself is taken out.
// RFC 3261 §18.2.1, RFC 3581 §4
func (m *Message) StampVia() {
	i := m.find(HVia)
	if i < 0 || m.code != 0 || !m.Flow.Remote.IsValid() {
		return
	}
	e, rest, _ := nextElement(m.value(i))
	v, err := ParseVia(e)
	if err != nil {
		return
	}
	addr := m.Flow.Remote.Addr().Unmap().WithZone("")
	host, isNumber := v.Addr()
	differs := !isNumber || host.Unmap() != addr
	if !v.asked && !v.forged && !differs {
		return
	}
	f := field{id: HVia, name: uint32(len(m.buf)), nlen: 3}
	m.buf = append(m.buf, "Via: "...)
	f.value = uint32(len(m.buf))
	at := len(e) - v.behind // behind rport
	switch {
	case v.forged || v.asked && isBlank(e[at-1]):
		m.buf = append(m.buf, e[:len(e)-len(v.Params)]...)
		m.copyParams(v.Params)
		if v.asked {
			m.buf = append(m.buf, ";rport"...)
			m.appendPort()
		}
	case v.asked:
		m.buf = append(m.buf, e[:at]...)
		m.appendPort()
		m.buf = append(m.buf, e[at:]...)
	default:
		m.buf = append(m.buf, e...)
	}
	if v.asked || differs {
		m.buf = append(m.buf, ";received="...)
		m.buf = addr.AppendTo(m.buf)
	}
	if rest = trim(rest); len(rest) > 0 {
		m.buf = append(m.buf, ", "...)
		m.buf = append(m.buf, rest...)
	}
	m.closeLine(&f)
	m.table()[i] = f
}

func (m *Message) appendPort() {
	m.buf = append(m.buf, '=')
	m.buf = strconv.AppendUint(m.buf, uint64(m.Flow.Remote.Port()), 10)
}

// copyParams appends Via parameters without received and rport.
func (m *Message) copyParams(p []byte) {
	for {
		name, value, rest, ok := nextParam(p)
		if !ok {
			return
		}
		if !equalLower(name, "received") && !equalLower(name, "rport") {
			m.buf = append(m.buf, ';')
			m.buf = append(m.buf, name...)
			if value != nil {
				m.buf = append(m.buf, '=')
				m.buf = append(m.buf, value...)
			}
		}
		p = rest
	}
}
