package sip

import "bytes"

// Frame finds the first whole message at the start of a stream's octets. n is its length,
// 0 while more is needed. CRLFs before the start line are counted in, though a transport
// takes them as keep-alives before it asks.
//
// The error is an *Error, after which the stream has no known place to go on: answer, if
// n > 0, what Parse reads of b[:n], and close.
// RFC 3261 §18.3
func Frame(b []byte) (n int, err error) {
	p := 0
	for p < len(b) && (b[p] == '\r' || b[p] == '\n') {
		p++
	}
	if p == len(b) {
		return 0, nil
	}
	if class[b[p]]&cToken == 0 {
		return 0, errGarbage
	}
	head := b[p:min(len(b), p+MaxHeader+4)]
	end := bytes.Index(head, crlfcrlf)
	if end < 0 || end+4 > MaxHeader {
		if len(head) > MaxHeader {
			return 0, errLarge
		}
		return 0, nil
	}
	end += 4
	length, bad := frameLength(head[:end])
	if bad != nil {
		return p + end, bad
	}
	if len(b)-p-end < length {
		return 0, nil
	}
	return p + end + length, nil
}

var crlfcrlf = []byte("\r\n\r\n")

// frameLength finds Content-Length among the header lines of b.
func frameLength(b []byte) (int, *Error) {
	length := -1
	for {
		k := bytes.IndexByte(b, '\n')
		if k < 0 || k+1 >= len(b) {
			break
		}
		b = b[k+1:]
		if c := b[0] | 0x20; c != 'l' && c != 'c' {
			continue
		}
		n := span(b, 0, cToken)
		if n != 1 && n != 14 || HeaderOf(b[:n]) != HContentLength {
			continue
		}
		n = skip(b, n)
		if n >= len(b) || b[n] != ':' {
			return 0, errLength
		}
		// The value ends at the first line break that no blank follows.
		v := b[n+1:]
		for end := 0; ; {
			k := bytes.IndexByte(v[end:], '\n')
			if k < 0 {
				return 0, errLength
			}
			end += k + 1
			if end >= len(v) || !isBlank(v[end]) {
				v = v[:end]
				break
			}
		}
		x, ok := number(trim(v), 1<<31)
		if !ok || length >= 0 {
			return 0, errLength
		}
		if x > MaxBody {
			return 0, errEntity
		}
		length = int(x)
	}
	if length < 0 {
		return 0, errNoLength
	}
	return length, nil
}
