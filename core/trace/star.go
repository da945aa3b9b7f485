package trace

import "bytes"

// starred are the header parameters that let somebody else in, or let him guess how.
var starred = [...]string{"response", "nonce", "cnonce", "nextnonce", "opaque", "rspauth",
	"gssapi-data", "srand", "crand", "password", "token"}

// credentials are the headers that carry them.
var credentials = [...]string{"authorization", "proxy-authorization", "www-authenticate",
	"proxy-authenticate", "authentication-info", "proxy-authentication-info"}

// Star copies a SIP message with its secrets as stars of the same length, so that
// Content-Length stays right: Digest and GSSAPI parameters, passwords in URIs, keys
// of SRTP and ICE in session descriptions (RFC 4568 §6.1, RFC 8839 §5.4), and
// passwords and tokens in XML bodies.
func Star(b []byte) []byte {
	c := bytes.Clone(b)
	head, body := c, []byte(nil)
	if i := bytes.Index(c, []byte("\r\n\r\n")); i >= 0 {
		head, body = c[:i+2], c[i+4:]
	}
	starHead(head)
	starBody(body)
	return c
}

func starHead(head []byte) {
	secret := false
	for len(head) > 0 {
		line := head
		if i := bytes.IndexByte(head, '\n'); i >= 0 {
			line, head = head[:i], head[i+1:]
		} else {
			head = nil
		}
		if len(line) > 0 && line[0] != ' ' && line[0] != '\t' { // else folded: as the line before
			secret = isCredentials(line)
		}
		if secret {
			starParams(line)
		} else {
			starUserInfo(line)
		}
	}
}

func isCredentials(line []byte) bool {
	i := bytes.IndexByte(line, ':')
	if i < 0 {
		return false
	}
	name := bytes.TrimSpace(line[:i])
	for _, n := range credentials {
		if len(name) == len(n) && bytes.EqualFold(name, []byte(n)) {
			return true
		}
	}
	return false
}

// starParams covers the secret parameters' values in one line. Schemes without
// parameters (Basic, Bearer, NTLM without a name) are covered whole.
func starParams(line []byte) {
	v := line
	if i := bytes.IndexByte(line, ':'); i >= 0 {
		v = bytes.TrimLeft(line[i+1:], " \t")
		for _, s := range []string{"basic ", "bearer "} {
			if len(v) > len(s) && bytes.EqualFold(v[:len(s)], []byte(s)) {
				stars(v[len(s):])
				return
			}
		}
	}
	for i := 0; i < len(line); i++ {
		if line[i] != '=' {
			continue
		}
		start, end := valueAt(line, i+1)
		if isStarred(nameBefore(line, i)) {
			stars(line[start:end])
		}
		i = max(i, end-1)
	}
}

func nameBefore(line []byte, eq int) []byte {
	end := eq
	for end > 0 && (line[end-1] == ' ' || line[end-1] == '\t') {
		end--
	}
	start := end
	for start > 0 && (inWord(line[start-1]|0x20) || line[start-1] == '-') {
		start--
	}
	return line[start:end]
}

// valueAt finds the value after '=': what stands between quotes, or up to the next
// comma or space.
func valueAt(line []byte, i int) (start, end int) {
	for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
		i++
	}
	if i < len(line) && line[i] == '"' {
		start = i + 1
		for end = start; end < len(line) && line[end] != '"'; end++ {
			if line[end] == '\\' {
				end++
			}
		}
		return start, min(end, len(line))
	}
	for start, end = i, i; end < len(line) && line[end] != ',' && line[end] != ' ' && line[end] != '\r' && line[end] != ';'; end++ {
	}
	return start, end
}

func isStarred(name []byte) bool {
	for _, n := range starred {
		if bytes.EqualFold(name, []byte(n)) {
			return true
		}
	}
	return false
}

// starUserInfo covers the password of sip:user:password@host.
func starUserInfo(line []byte) {
	for i := range line {
		if line[i] == ':' && isSIP(line[:i]) {
			starPassword(line[i+1:])
		}
	}
}

// isSIP says whether what stands before a colon ends in sip or sips, in any case.
func isSIP(b []byte) bool {
	if n := len(b); n > 0 && b[n-1]|0x20 == 's' {
		b = b[:n-1]
	}
	return len(b) >= 3 && bytes.EqualFold(b[len(b)-3:], []byte("sip"))
}

// starPassword covers what stands between the first colon of a URI's rest and its @.
func starPassword(rest []byte) {
	if i := bytes.IndexAny(rest, "@> \r\"<"); i >= 0 && rest[i] == '@' {
		if colon := bytes.IndexByte(rest[:i], ':'); colon >= 0 {
			stars(rest[colon+1 : i])
		}
	}
}

func starBody(b []byte) {
	for len(b) > 0 {
		line := b
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		line = bytes.TrimSuffix(line, []byte("\r"))
		switch {
		case bytes.HasPrefix(line, []byte("a=crypto:")): // RFC 4568 §9.1
			if i := bytes.Index(line, []byte("inline:")); i >= 0 {
				stars(line[i+len("inline:"):])
			}
		case bytes.HasPrefix(line, []byte("a=ice-pwd:")):
			stars(line[len("a=ice-pwd:"):])
		case bytes.HasPrefix(line, []byte("a=key-mgmt:")):
			stars(line[len("a=key-mgmt:"):])
		case bytes.HasPrefix(line, []byte("k=")): // RFC 4566 §5.12
			stars(line[2:])
		default:
			starElement(line, "password>")
			starElement(line, "token>")
		}
	}
}

// starElement covers the text of <password>…</password> within one line.
func starElement(line []byte, tag string) {
	for off := 0; ; {
		i := indexFold(line[off:], tag)
		if i < 0 {
			return
		}
		start := off + i + len(tag)
		end := bytes.IndexByte(line[start:], '<')
		if end < 0 {
			end = len(line) - start
		}
		if off+i > 0 && line[off+i-1] != '/' {
			stars(line[start : start+end])
		}
		off = start
	}
}

// indexFold finds tag in any case. Lowering the line first would move places: octets that
// are no UTF-8, and some letters, change their length with it.
func indexFold(line []byte, tag string) int {
	for i := range len(line) - len(tag) + 1 {
		if bytes.EqualFold(line[i:i+len(tag)], []byte(tag)) {
			return i
		}
	}
	return -1
}

// stars leaves a trailing CR alone.
func stars(b []byte) {
	b = bytes.TrimSuffix(b, []byte("\r"))
	for i := range b {
		b[i] = '*'
	}
}
