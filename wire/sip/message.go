// Package sip is SIP messages: parser, writer, edits and their parts (URI, address, Via).
// RFC 3261, RFC 3581, RFC 3966, RFC 5118, RFC 7118. Flows, on which messages travel,
// are values here too; the sockets are elsewhere.
//
// A Message is one buffer and a table of places in it. Parse reads the header once and
// looks into no value; values are read when somebody asks. Edits append new lines to the
// same buffer, so that received octets never change and views of them stay good. Nothing
// is allocated as long as the buffer has room behind the message.
//
// There are no goroutines and no locks: a Message belongs to one goroutine. Also reading
// may move a folded line, so that only a Clone, which has none, may be read by several.
package sip

import "bytes"

// Limits of a message. What is over them is refused, not cut.
const (
	MaxHeader  = 64 << 10 // octets of start line and header together: 513
	MaxLine    = 8 << 10  // octets of one header, folds included: 513
	MaxBody    = 1 << 20  // octets of a body: 413
	MaxFields  = 256      // header lines: 400
	MaxVias    = 70       // Via elements: 400
	MaxContact = 100      // Contact elements: 400
	MaxRoutes  = 64       // Route and Record-Route elements, each: 400
)

// inline is how many fields a Message holds without memory of its own.
const inline = 32

// field is one header line: places in the buffer.
type field struct {
	name   uint32 // start of the name, which is the start of the line
	value  uint32 // start of the value, blanks cut
	end    uint32 // end of the value, blanks cut
	nlen   uint16 // octets of the name
	id     Header //
	folded bool   // the value still has its line breaks
}

// cut is a span of the buffer.
type cut struct{ from, to uint32 }

// Message is one request or response: received octets and the places of their parts.
// The zero value is ready for Parse.
type Message struct {
	Flow Flow  // where it came from; zero for one made here
	At   int64 // when, monotonic ns (clock.Mono)

	buf    []byte // received octets, then what edits appended
	got    uint32 // end of the received message in buf
	method Method // of a request, and of a response by its CSeq when asked for
	code   uint16 // 0: request
	fresh  bool   // the start line still stands as received
	start  cut    // the start line without CRLF
	word   cut    // method, or reason phrase
	target cut    // Request-URI
	body   cut    //
	have   mask   // headers that are there
	twice  mask   // headers with several lines
	n      int    // fields
	many   bool   // the fields are in more
	more   []field
	fields [inline]field
}

// Reset makes m empty. It keeps no octets but the table's memory.
func (m *Message) Reset() {
	m.Flow, m.At = Flow{}, 0
	m.clear()
}

func (m *Message) clear() {
	m.buf, m.got = nil, 0
	m.method, m.code, m.fresh = Other, 0, false
	m.start, m.word, m.target, m.body = cut{}, cut{}, cut{}, cut{}
	m.have, m.twice = mask{}, mask{}
	m.n, m.many = 0, false
}

// table gives the fields as they stand.
func (m *Message) table() []field {
	if m.many {
		return m.more
	}
	return m.fields[:m.n]
}

// push adds a field at the end.
func (m *Message) push(f field) {
	if m.have.has(f.id) {
		m.twice.add(f.id)
	}
	m.have.add(f.id)
	if !m.many {
		if m.n < inline {
			m.fields[m.n] = f
			m.n++
			return
		}
		m.more = append(m.more[:0], m.fields[:]...)
		m.many = true
	}
	m.more = append(m.more, f)
	m.n++
}

// find gives the index of the first field h, or -1. For HOther it gives the first
// unnumbered one.
func (m *Message) find(h Header) int {
	if !m.have.has(h) {
		return -1
	}
	t := m.table()
	for i := range t {
		if t[i].id == h {
			return i
		}
	}
	return -1
}

// findName finds a header of any name.
func (m *Message) findName(name string, from int) int {
	t := m.table()
	for i := from; i < len(t); i++ {
		if equalFold(m.name(&t[i]), name) {
			return i
		}
	}
	return -1
}

func (m *Message) cut(c cut) []byte { return m.buf[c.from:c.to:c.to] }

func (m *Message) name(f *field) []byte { return m.buf[f.name : f.name+uint32(f.nlen)] }

// value gives field i's value with its folding undone.
func (m *Message) value(i int) []byte {
	f := &m.table()[i]
	if f.folded {
		m.unfold(f)
	}
	return m.buf[f.value:f.end:f.end]
}

// unfold writes the field anew, on one line, behind all else. Each break with the blanks
// around it becomes one blank.
// RFC 3261 §7.3.1
func (m *Message) unfold(f *field) {
	from := uint32(len(m.buf))
	m.buf = append(m.buf, m.name(f)...)
	m.buf = append(m.buf, ": "...)
	start := uint32(len(m.buf))
	v := m.buf[f.value:f.end]
	for len(v) > 0 {
		i := bytes.IndexByte(v, '\r')
		if i < 0 {
			m.buf = append(m.buf, v...)
			break
		}
		line := bytes.TrimRight(v[:i], " \t")
		m.buf = append(m.buf, line...)
		for i < len(v) && isSpace(v[i]) {
			i++
		}
		v = v[i:]
		if len(v) > 0 && uint32(len(m.buf)) > start {
			m.buf = append(m.buf, ' ')
		}
	}
	f.name, f.value, f.end, f.folded = from, start, uint32(len(m.buf)), false
	m.buf = append(m.buf, '\r', '\n')
}

// Clone gives an equal message with memory of its own. It may be kept and read by
// several goroutines, as long as nobody edits it.
func (m *Message) Clone() *Message {
	c := &Message{
		Flow: m.Flow, At: m.At, got: m.got, method: m.method, code: m.code, fresh: m.fresh, start: m.start, word: m.word,
		target: m.target, body: m.body, have: m.have, twice: m.twice, n: m.n, many: m.many,
	}
	c.buf = append(make([]byte, 0, len(m.buf)+256), m.buf...)
	if m.many {
		c.more = append([]field(nil), m.more...)
	} else {
		copy(c.fields[:], m.fields[:m.n])
	}
	t := c.table()
	for i := range t {
		if t[i].folded {
			c.unfold(&t[i])
		}
	}
	return c
}

// IsRequest says whether m is a request.
func (m *Message) IsRequest() bool { return m.code == 0 }

// Method gives a request's method, and that of a response's CSeq.
func (m *Message) Method() Method {
	if m.code != 0 {
		_, method, _ := m.CSeq()
		return method
	}
	return m.method
}

// MethodName gives the method as written; of a response that of its CSeq.
func (m *Message) MethodName() []byte {
	if m.code != 0 {
		_, name, _ := splitCSeq(m.Get(HCSeq))
		return name
	}
	return m.cut(m.word)
}

// RequestURI gives a request's URI as written.
func (m *Message) RequestURI() []byte { return m.cut(m.target) }

// StatusCode gives a response's code, 100 to 699; 0 for a request.
func (m *Message) StatusCode() int { return int(m.code) }

// Reason gives a response's reason phrase as written.
func (m *Message) Reason() []byte {
	if m.code == 0 {
		return nil
	}
	return m.cut(m.word)
}

// Body gives the body, as long as Content-Length says.
func (m *Message) Body() []byte { return m.cut(m.body) }

// Bytes gives the message as received, without what edits changed; nil for one made here.
func (m *Message) Bytes() []byte { return m.buf[:m.got:m.got] }
