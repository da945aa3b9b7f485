package sip

import (
	"bytes"
	"net/netip"
	"strconv"
)

// URI is a SIP, SIPS or tel URI taken apart, or another one by its scheme. All fields are
// views of the octets that it was read from, escapes as they were.
// RFC 3261 §19.1, RFC 3966
type URI struct {
	Scheme   []byte
	User     []byte // tel: the number
	Password []byte
	Host     []byte // IPv6 with its brackets; Addr gives the number
	Port     uint16 // 0: none
	Params   []byte // ";a=b;c" or nil
	Headers  []byte // "a=b&c=d", without the question mark, or nil
	Opaque   []byte // other schemes: all behind the colon
}

// ParseURI reads a URI. An unknown scheme is no error here.
func ParseURI(b []byte) (URI, error) {
	var u URI
	err := u.parse(b)
	return u, err
}

// parse fills a zero URI.
func (u *URI) parse(b []byte) error {
	if len(b) > 4 && b[3] == ':' && b[0]|0x20 == 's' && b[1]|0x20 == 'i' && b[2]|0x20 == 'p' {
		u.Scheme = b[:3]
		return u.parseSIP(b[4:])
	}
	i := span(b, 0, cScheme)
	if i == 0 || i >= len(b) || b[i] != ':' || class[b[0]]&cDigit != 0 || class[b[0]]&cToken == 0 {
		return errURI
	}
	u.Scheme = b[:i]
	rest := b[i+1:]
	switch {
	case i == 4 && equalLower(u.Scheme, "sips"):
		return u.parseSIP(rest)
	case i == 3 && equalLower(u.Scheme, "tel"):
		return u.parseTel(rest)
	}
	if len(rest) == 0 || span(rest, 0, cURI) < len(rest) {
		return errURI
	}
	u.Opaque = rest
	return nil
}

// parseSIP reads what stands behind "sip:". The user may hold each of ";?/:,", so that
// the at sign is looked for first.
func (u *URI) parseSIP(b []byte) error {
	if at := bytes.IndexByte(b, '@'); at >= 0 {
		if span(b[:at], 0, cURI) < at || at == 0 {
			return errURI
		}
		u.User = b[:at]
		if c := bytes.IndexByte(u.User, ':'); c == 0 {
			return errURI
		} else if c > 0 {
			u.User, u.Password = u.User[:c], u.User[c+1:]
		}
		b = b[at+1:]
	}
	host, port, rest, ok := hostPort(b)
	if !ok {
		return errURI
	}
	u.Host, u.Port = host, port
	if len(rest) > 0 && rest[0] == ';' {
		u.Params = rest
		if q := bytes.IndexByte(rest, '?'); q >= 0 {
			u.Params, rest = rest[:q], rest[q:]
		} else {
			rest = nil
		}
		if !goodURIParams(u.Params) {
			return errURI
		}
	}
	if len(rest) > 0 {
		if rest[0] != '?' || len(rest) == 1 || span(rest, 0, cURI) < len(rest) {
			return errURI
		}
		u.Headers = rest[1:]
	}
	return nil
}

// goodURIParams refuses blanks, stray octets and empty parameters.
func goodURIParams(p []byte) bool {
	last := byte(0)
	for _, c := range p {
		if class[c]&cURI == 0 || c == '@' || c == ';' && last == ';' || c == '=' && last == ';' {
			return false
		}
		last = c
	}
	return last != ';'
}

// hostPort reads host [":" port] at the start of b. Blanks around the colon are not allowed.
func hostPort(b []byte) (host []byte, port uint16, rest []byte, ok bool) {
	i := 0
	if len(b) > 0 && b[0] == '[' {
		i = bytes.IndexByte(b, ']') + 1
		if i == 0 {
			return nil, 0, nil, false
		}
		if _, good := parseAddr(b[:i]); !good {
			return nil, 0, nil, false
		}
	} else if i = span(b, 0, cHost); i == 0 {
		return nil, 0, nil, false
	}
	host = b[:i]
	if i < len(b) && b[i] == ':' {
		n := 0
		s := i + 1
		for i = s; i < len(b) && class[b[i]]&cDigit != 0; i++ {
			if n = n*10 + int(b[i]-'0'); n > 65535 {
				return nil, 0, nil, false
			}
		}
		if i == s {
			return nil, 0, nil, false
		}
		port = uint16(n)
	}
	return host, port, b[i:], true
}

// parseTel reads a telephone number and its parameters.
func (u *URI) parseTel(b []byte) error {
	n := b
	if i := bytes.IndexByte(b, ';'); i >= 0 {
		n, u.Params = b[:i], b[i:]
		if !goodURIParams(u.Params) {
			return errURI
		}
	}
	digits := 0
	for i, c := range n {
		switch {
		case class[c]&cHex != 0 || c == '*' || c == '#':
			digits++
		case c == '-' || c == '.' || c == '(' || c == ')':
		case c == '+' && i == 0:
		default:
			return errURI
		}
	}
	if digits == 0 {
		return errURI
	}
	u.User = n
	return nil
}

// Is compares the scheme, given in lower case.
func (u URI) Is(scheme string) bool { return equalLower(u.Scheme, scheme) }

// IsSIP says whether the scheme is sip or sips.
func (u URI) IsSIP() bool { return u.Is("sip") || u.Is("sips") }

// Addr gives the host as a number if it is one.
func (u URI) Addr() (netip.Addr, bool) { return parseAddr(u.Host) }

// Param finds a URI parameter; name in lower case, escapes in the URI's names undone.
// The value is given as it stands.
func (u URI) Param(name string) (v []byte, ok bool) {
	p := u.Params
	for len(p) > 0 {
		n, value, rest := uriParam(p)
		if equalLower(n, name) || bytes.IndexByte(n, '%') >= 0 && equalEscaped(n, []byte(name), true) {
			return value, true
		}
		p = rest
	}
	return nil, false
}

// uriParam reads one parameter at p, which starts with a semicolon.
func uriParam(p []byte) (name, value, rest []byte) {
	p = p[1:]
	if i := bytes.IndexByte(p, ';'); i >= 0 {
		p, rest = p[:i], p[i:]
	}
	if i := bytes.IndexByte(p, '='); i >= 0 {
		return p[:i], p[i+1:], rest
	}
	return p, nil, rest
}

// AppendTo appends the URI as text.
func (u URI) AppendTo(dst []byte) []byte {
	dst = append(dst, u.Scheme...)
	dst = append(dst, ':')
	if u.Opaque != nil {
		return append(dst, u.Opaque...)
	}
	dst = append(dst, u.User...)
	if u.Password != nil {
		dst = append(dst, ':')
		dst = append(dst, u.Password...)
	}
	if u.Host != nil {
		if u.User != nil {
			dst = append(dst, '@')
		}
		dst = append(dst, u.Host...)
	}
	if u.Port != 0 {
		dst = append(dst, ':')
		dst = strconv.AppendUint(dst, uint64(u.Port), 10)
	}
	dst = append(dst, u.Params...)
	if u.Headers != nil {
		dst = append(dst, '?')
		dst = append(dst, u.Headers...)
	}
	return dst
}

// String gives the URI as text.
func (u URI) String() string { return string(u.AppendTo(nil)) }

// AppendAOR appends the address of record that the URI names: "user@host" with escapes
// undone once and the host in lower case, no port, no parameters; of a tel URI the
// number without its visual separators; of other schemes the whole URI. A user part
// that holds an escaped at sign stays one user: the last at sign is the separator.
// RFC 3261 §10.3
func (u URI) AppendAOR(dst []byte) []byte {
	switch {
	case u.Host != nil:
		if u.User != nil {
			dst = appendUnescaped(dst, u.User)
			dst = append(dst, '@')
		}
		for _, c := range u.Host {
			dst = append(dst, lowerByte(c))
		}
		return dst
	case u.Opaque != nil:
		return u.AppendTo(dst)
	}
	for _, c := range u.User {
		if c != '-' && c != '.' && c != '(' && c != ')' {
			dst = append(dst, c)
		}
	}
	return dst
}

// Equal compares two URIs. It is not transitive, as the RFC wants it.
// RFC 3261 §19.1.4, RFC 5954 §4.2
func (u URI) Equal(v URI) bool {
	if !equalFold(u.Scheme, v.Scheme) || u.Port != v.Port {
		return false
	}
	if u.Opaque != nil || v.Opaque != nil {
		return bytes.Equal(u.Opaque, v.Opaque)
	}
	if u.Is("tel") {
		return string(u.AppendAOR(nil)) == string(v.AppendAOR(nil)) && u.paramsMatch(v) && v.paramsMatch(u)
	}
	if (u.User == nil) != (v.User == nil) || !equalEscaped(u.User, v.User, false) ||
		(u.Password == nil) != (v.Password == nil) || !equalEscaped(u.Password, v.Password, false) {
		return false
	}
	if !equalFold(u.Host, v.Host) {
		a, ok := u.Addr()
		b, ok2 := v.Addr()
		if !ok || !ok2 || a != b {
			return false
		}
	}
	return u.paramsMatch(v) && v.paramsMatch(u) && sameHeaders(u.Headers, v.Headers)
}

// decisive lists the parameters that must stand in both URIs or in none.
var decisive = [...]string{"transport", "user", "ttl", "method", "maddr"}

// paramsMatch checks each of u's parameters against v's.
func (u URI) paramsMatch(v URI) bool {
	if bytes.Equal(u.Params, v.Params) {
		return true
	}
	p := u.Params
	for len(p) > 0 {
		n, value, rest := uriParam(p)
		p = rest
		q, found := v.Params, false
		for len(q) > 0 && !found {
			n2, value2, rest2 := uriParam(q)
			q = rest2
			if found = equalEscaped(n, n2, true); found && !equalEscaped(value, value2, true) {
				return false
			}
		}
		if !found {
			for _, d := range decisive {
				if equalEscaped(n, []byte(d), true) {
					return false
				}
			}
		}
	}
	return true
}

// sameHeaders compares the header parts: the same members in any order.
func sameHeaders(a, b []byte) bool {
	if a == nil || b == nil {
		return (a == nil) == (b == nil)
	}
	return holdsHeaders(a, b) && holdsHeaders(b, a)
}

func holdsHeaders(a, b []byte) bool {
	for x := range bytes.SplitSeq(a, []byte("&")) {
		n, v, _ := bytes.Cut(x, []byte("="))
		found := false
		for y := range bytes.SplitSeq(b, []byte("&")) {
			n2, v2, _ := bytes.Cut(y, []byte("="))
			if equalEscaped(n, n2, true) && equalEscaped(v, v2, false) {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}
