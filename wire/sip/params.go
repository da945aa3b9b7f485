package sip

import "bytes"

// nextParam reads the first parameter of a list ";a=b ; c". A quoted value keeps its
// quotes. ok is false at the end and at an error; at the end rest is empty.
// RFC 3261 §25.1 generic-param
func nextParam(p []byte) (name, value, rest []byte, ok bool) {
	i := skip(p, 0)
	if i == len(p) {
		return nil, nil, nil, false
	}
	if p[i] != ';' {
		return nil, nil, p, false
	}
	i = skip(p, i+1)
	s := i
	i = span(p, i, cToken)
	if i == s {
		return nil, nil, p, false
	}
	name = p[s:i]
	i = skip(p, i)
	if i < len(p) && p[i] == '=' {
		i = skip(p, i+1)
		s = i
		if i < len(p) && p[i] == '"' {
			if i = quoted(p, i); i < 0 {
				return nil, nil, p, false
			}
		} else {
			for i < len(p) && p[i] > ' ' && p[i] != ';' && p[i] != '"' && p[i] != ',' {
				i++
			}
		}
		value = p[s:i]
		i = skip(p, i)
	}
	if i < len(p) && p[i] != ';' {
		return nil, nil, p, false
	}
	return name, value, p[i:], true
}

// goodParams says whether all of p is a list of parameters.
func goodParams(p []byte) bool {
	for {
		_, _, rest, ok := nextParam(p)
		if !ok {
			return len(rest) == 0
		}
		p = rest
	}
}

// Param finds a parameter of a list ";a=b;c" behind an address or a Via. The name is in
// lower case. Of a quoted value it gives what stands between the quotes (Unquote undoes
// its backslashes); v is nil for a parameter without a value.
func Param(params []byte, name string) (v []byte, ok bool) {
	for {
		n, value, rest, good := nextParam(params)
		if !good {
			return nil, false
		}
		if equalLower(n, name) {
			if len(value) > 1 && value[0] == '"' {
				value = value[1 : len(value)-1]
			}
			return value, true
		}
		params = rest
	}
}

// Unquote gives a quoted string's text without quotes and backslashes. It allocates only
// when there is a backslash.
func Unquote(b []byte) []byte {
	if len(b) > 1 && b[0] == '"' && b[len(b)-1] == '"' {
		b = b[1 : len(b)-1]
	}
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) {
			i++
		}
		out = append(out, b[i])
	}
	return out
}

// AppendQuoted appends s as a quoted string.
func AppendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\r', '\n', 0:
			dst = append(dst, ' ')
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// nextElement cuts off the first element of a comma-separated value. Commas within
// quotes and angle brackets do not count. more is false when it was the last.
func nextElement(b []byte) (elem, rest []byte, more bool) {
	if bytes.IndexByte(b, ',') < 0 {
		return trim(b), nil, false
	}
	angle := false
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			if !angle {
				j := quoted(b, i)
				if j < 0 {
					return trim(b), nil, false
				}
				i = j - 1
			}
		case '<':
			angle = true
		case '>':
			angle = false
		case ',':
			if !angle {
				return trim(b[:i]), b[i+1:], true
			}
		}
	}
	return trim(b), nil, false
}
