package sip

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// Parse reads one datagram, or one framed message of a stream. m takes b over, and its
// capacity behind the message too: hand it a slice whose spare capacity is free (cut it
// with b[:n:max]). Octets behind Content-Length are ignored.
//
// The error is an *Error. m then holds what could be read, so that a request can still
// be answered. Parse looks into no value but Content-Length; Check does.
func (m *Message) Parse(b []byte) error {
	m.clear()
	m.buf = b
	p := 0
	for p < len(b) && (b[p] == '\r' || b[p] == '\n') { // RFC 3261 §7.5
		p++
	}
	first := p
	bad := m.parseStart(&p)
	if bad == errGarbage {
		return bad
	}
	lines, err := m.parseFields(&p)
	if bad == nil {
		bad = err
	}
	// Each CR belongs to a line's end: a lone one could mean a line to the next hop.
	if bad == nil && bytes.Count(b[first:p], crByte) != lines {
		bad = errBreak
	}
	if bad == nil && p-first > MaxHeader {
		bad = errLarge
	}
	if err := m.parseLength(p); bad == nil {
		bad = err
	}
	if bad == nil {
		return nil
	}
	return m.verdict(bad)
}

var crByte = []byte{'\r'}

// verdict adds that responses, ACKs and what has no Via are never answered.
func (m *Message) verdict(e *Error) *Error {
	if !e.Drop && (m.code != 0 || m.method == ACK || !m.have.has(HVia)) {
		drop := *e
		drop.Drop = true
		return &drop
	}
	return e
}

// parseStart reads the start line and sets *p behind it.
// RFC 3261 §7.1, §7.2
func (m *Message) parseStart(p *int) *Error {
	b := m.buf
	i := *p
	k := bytes.IndexByte(b[i:], '\n')
	if k < 1 || b[i+k-1] != '\r' {
		return errGarbage
	}
	end := i + k - 1
	*p = i + k + 1
	m.start = cut{uint32(i), uint32(end)}
	m.fresh = true
	line := b[i:end]
	if len(line) > MaxLine {
		return errLarge
	}
	if len(line) > 4 && string(line[:4]) == "SIP/" {
		return m.parseStatus(line, uint32(i))
	}
	s := span(line, 0, cToken)
	if s == 0 || s >= len(line) || line[s] != ' ' {
		return errGarbage
	}
	m.word = cut{uint32(i), uint32(i + s)}
	m.method = MethodOf(line[:s])
	// The URI ends at the last blank: blanks within it are for it to answer for.
	last := len(line) - 1
	for line[last] != ' ' {
		last--
	}
	if last <= s {
		return errStart
	}
	m.target = cut{uint32(i + s + 1), uint32(i + last)}
	version := line[last+1:]
	if string(version) != "SIP/2.0" && !equalLower(version, "sip/2.0") {
		if len(version) > 4 && equalLower(version[:4], "sip/") {
			return errVersion
		}
		return errStart
	}
	if bytes.IndexByte(line[s+1:last], ' ') >= 0 || last == s+1 {
		return errStart
	}
	return nil
}

// parseStatus reads "SIP/2.0 200 OK". The blank before an empty phrase may be missing.
func (m *Message) parseStatus(line []byte, at uint32) *Error {
	m.code = 999 // a response in any case, even when wrong
	if len(line) < 11 || string(line[:8]) != "SIP/2.0 " || len(line) > 11 && line[11] != ' ' {
		return errCode
	}
	n, ok := number(line[8:11], 699)
	if !ok || n < 100 {
		return errCode
	}
	m.code = uint16(n)
	m.word = cut{at + uint32(min(12, len(line))), at + uint32(len(line))}
	return nil
}

// parseFields reads the header lines up to the empty one and sets *p behind it. It gives
// the number of line ends seen, that of the start line included. After a bad line it goes
// on, so that an answer finds its Via.
func (m *Message) parseFields(p *int) (lines int, bad *Error) {
	b := m.buf
	i := *p
	lines = 1
	for {
		if i >= len(b) {
			*p = i
			return lines, first(bad, errEnd)
		}
		if b[i] == '\r' && i+1 < len(b) && b[i+1] == '\n' {
			*p = i + 2
			return lines + 1, bad
		}
		s := i
		n, id := fieldName(b, i)
		c := n
		if c < len(b) && b[c] != ':' {
			c = skip(b, c)
		}
		v := c + 1
		k := bytes.IndexByte(b[c:], '\n')
		if k < 0 {
			*p = len(b)
			return lines, first(bad, errEnd)
		}
		end := c + k // at LF
		lines++
		folded, broken := false, false
		for end+1 < len(b) && isBlank(b[end+1]) {
			broken = broken || b[end-1] != '\r'
			k = bytes.IndexByte(b[end+1:], '\n')
			if k < 0 {
				*p = len(b)
				return lines, first(bad, errEnd)
			}
			end += k + 1
			lines++
			folded = true
		}
		i = end + 1
		if b[c] != ':' || n == s {
			bad = first(bad, errLine)
			continue
		}
		if broken || b[end-1] != '\r' {
			bad = first(bad, errBreak)
			continue
		}
		if i-s > MaxLine {
			bad = first(bad, errLarge)
			continue
		}
		if m.n == MaxFields {
			bad = first(bad, errMany)
			continue
		}
		end--
		v = skip(b, v)
		for end > v && isSpace(b[end-1]) { // a fold of blanks alone must not end as an empty line
			end--
		}
		if m.n >= inline {
			m.push(field{name: uint32(s), value: uint32(v), end: uint32(end), nlen: uint16(n - s), id: id, folded: folded})
			continue
		}
		f := &m.fields[m.n] // octet by octet: a copy of a whole one waits for its parts
		f.name, f.value, f.end, f.nlen, f.id, f.folded = uint32(s), uint32(v), uint32(end), uint16(n-s), id, folded
		m.n++
		at, bit := id>>6&1, uint64(1)<<(id&63)
		m.twice[at] |= m.have[at] & bit
		m.have[at] |= bit
	}
}

// fieldName gives the end of the name that starts at i, and its number. A name with a
// number needs no look at each octet: the comparison was one.
func fieldName(b []byte, i int) (end int, id Header) {
	if i+maxName > len(b) {
		end = span(b, i, cToken)
		return end, HeaderOf(b[i:end])
	}
	at := b[i : i+maxName]
	for k := 0; k < maxName; k += 8 {
		x := binary.LittleEndian.Uint64(at[k:]) ^ 0x3a3a3a3a3a3a3a3a // a colon's octet becomes 0
		if z := (x - 0x0101010101010101) &^ x & 0x8080808080808080; z != 0 {
			n := k + bits.TrailingZeros64(z)>>3
			if id = headerAt(at, n); id != HOther {
				return i + n, id
			}
			break
		}
	}
	end = span(b, i, cToken)
	return end, HeaderOf(b[i:end])
}

func first(a, b *Error) *Error {
	if a != nil {
		return a
	}
	return b
}

// parseLength finds the body's end. On a datagram a missing Content-Length means all.
// RFC 3261 §18.3, §20.14
func (m *Message) parseLength(p int) *Error {
	m.got = uint32(len(m.buf))
	m.body = cut{uint32(p), uint32(len(m.buf))}
	rest := len(m.buf) - p
	if rest > MaxBody && !m.have.has(HContentLength) {
		m.body.to = m.body.from
		return errEntity
	}
	if !m.have.has(HContentLength) {
		return nil
	}
	if m.twice.has(HContentLength) {
		m.body.to = m.body.from
		return errLength
	}
	n, ok := number(m.value(m.find(HContentLength)), 1<<31)
	switch {
	case !ok:
		m.body.to = m.body.from
		return errLength
	case n > MaxBody:
		m.body.to = m.body.from
		return errEntity
	case int(n) > rest:
		return errShort
	}
	m.body.to = uint32(p) + uint32(n)
	m.got = m.body.to
	return nil
}
