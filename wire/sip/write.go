package sip

import "strconv"

// AppendTo appends the message as it stands. Lines that no edit touched are copied as
// received, in runs. Content-Length is made right.
func (m *Message) AppendTo(dst []byte) []byte {
	from, to := m.start.from, m.start.to // the run not yet copied
	if !m.fresh {
		dst = m.appendStart(dst)
		from, to = 0, 0
	}
	length, wrote := int(m.body.to-m.body.from), false
	t := m.table()
	for i := range t {
		f := &t[i]
		if f.id == HContentLength {
			if wrote { // of several, which Check refuses, the first stays
				continue
			}
			wrote = true
			if n, ok := number(m.buf[f.value:f.end], 1<<31); !ok || int(n) != length {
				dst = m.flush(dst, from, to)
				from, to = 0, 0
				dst = appendLength(dst, length)
				continue
			}
		}
		if f.name == to+2 && to != 0 {
			to = f.end
			continue
		}
		dst = m.flush(dst, from, to)
		from, to = f.name, f.end
	}
	dst = m.flush(dst, from, to)
	if !wrote {
		dst = appendLength(dst, length)
	}
	dst = append(dst, '\r', '\n')
	return append(dst, m.buf[m.body.from:m.body.to]...)
}

// flush copies a run of lines and ends the last one.
func (m *Message) flush(dst []byte, from, to uint32) []byte {
	if to == 0 {
		return dst
	}
	dst = append(dst, m.buf[from:to]...)
	return append(dst, '\r', '\n')
}

func appendLength(dst []byte, n int) []byte {
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, '\r', '\n')
}

// appendStart writes the start line of an edited request or of a message made here.
func (m *Message) appendStart(dst []byte) []byte {
	if m.code != 0 {
		return appendStatus(dst, int(m.code), m.Reason())
	}
	dst = append(dst, m.cut(m.word)...)
	dst = append(dst, ' ')
	dst = append(dst, m.cut(m.target)...)
	return append(dst, " SIP/2.0\r\n"...)
}

func appendStatus[T string | []byte](dst []byte, code int, reason T) []byte {
	dst = append(dst, "SIP/2.0 "...)
	dst = strconv.AppendInt(dst, int64(code), 10)
	dst = append(dst, ' ')
	dst = append(dst, reason...)
	return append(dst, '\r', '\n')
}

// NewRequest makes a request with memory of its own and nothing but a start line.
func NewRequest(method, uri string) *Message {
	m := &Message{buf: make([]byte, 0, 1024), method: MethodOf([]byte(method))}
	m.buf = append(m.buf, method...)
	m.word = cut{0, uint32(len(m.buf))}
	m.SetRequestURI([]byte(uri))
	return m
}

// NewResponse makes a response to a request, with memory of its own: Via, From, To,
// Call-ID and CSeq of the request, Record-Route where a dialog may begin, Timestamp in a
// 100. It adds no tag to To. An empty reason means the usual one.
// RFC 3261 §8.2.6.2, §12.1.1
func (m *Message) NewResponse(code int, reason string) *Message {
	if reason == "" {
		reason = ReasonOf(code)
	}
	r := &Message{Flow: m.Flow, buf: make([]byte, 0, 1024), code: uint16(code)}
	r.buf = append(r.buf, reason...)
	for i, c := range r.buf {
		if c == '\r' || c == '\n' {
			r.buf[i] = ' '
		}
	}
	r.word = cut{0, uint32(len(r.buf))}
	for i := range m.n {
		if f := m.table()[i]; echoed(f.id, code, m.method) {
			r.push(r.line(f.id, headerNames[f.id], m.value(i)))
		}
	}
	return r
}

// echoed says whether a response repeats the request's header.
func echoed(h Header, code int, method Method) bool {
	switch h {
	case HVia, HFrom, HTo, HCallID, HCSeq:
		return true
	case HRecordRoute:
		return code > 100 && code < 300 && (method == INVITE || method == SUBSCRIBE || method == REFER || method == NOTIFY)
	case HTimestamp:
		return code == 100
	}
	return false
}

// AppendResponse appends a whole response to a request, straight from its octets: the
// lines that NewResponse repeats, toTag on To if it has none, extra (whole lines
// "X: y\r\n"), Content-Length 0. It allocates nothing but what dst needs.
func AppendResponse(dst []byte, req *Message, code int, toTag []byte, extra []byte) []byte {
	return AppendReply(dst, req, Reply{Code: code, ToTag: toTag, Extra: extra})
}

// Reply is what AppendReply needs beside the request.
type Reply struct {
	Code   int    // 100 to 699
	Reason string // "": the usual one
	ToTag  []byte // for a To without tag; nil: none
	Extra  []byte // whole header lines, each with CRLF
	Body   []byte // its Content-Type belongs to Extra
}

// AppendReply is AppendResponse with reason phrase and body.
func AppendReply(dst []byte, req *Message, r Reply) []byte {
	reason := r.Reason
	if reason == "" {
		reason = ReasonOf(r.Code)
	}
	dst = appendStatus(dst, r.Code, reason)
	from, to := uint32(0), uint32(0)
	t := req.table()
	for i := range t {
		f := &t[i]
		if !echoed(f.id, r.Code, req.method) {
			continue
		}
		if f.id == HTo && len(r.ToTag) > 0 && r.Code != 100 && len(req.ToTag()) == 0 {
			dst = req.flush(dst, from, to)
			from, to = 0, 0
			dst = append(dst, req.buf[f.name:f.end]...)
			dst = append(dst, ";tag="...)
			dst = append(dst, r.ToTag...)
			dst = append(dst, '\r', '\n')
			continue
		}
		if f.name == to+2 && to != 0 {
			to = f.end
			continue
		}
		dst = req.flush(dst, from, to)
		from, to = f.name, f.end
	}
	dst = req.flush(dst, from, to)
	dst = append(dst, r.Extra...)
	dst = appendLength(dst, len(r.Body))
	dst = append(dst, '\r', '\n')
	return append(dst, r.Body...)
}
