package gss

import (
	"bytes"
	"strings"
)

// params walks over "name=value, name="value"".
type params struct {
	rest        []byte
	name, value []byte
	bad         bool
}

// scheme cuts the word Digest off.
func scheme(b []byte) (params, bool) {
	i := 0
	for i < len(b) && blank(b[i]) {
		i++
	}
	b = b[i:]
	if len(b) < 7 || !foldEqual(b[:6], "digest") || !blank(b[6]) {
		return params{}, false
	}
	return params{rest: b[7:]}, true
}

// next reads one parameter; a quoted value loses its quotes, not its backslashes. Empty
// elements are passed over.
func (p *params) next() bool {
	b := p.rest
	i := 0
	for i < len(b) && (blank(b[i]) || b[i] == ',') {
		i++
	}
	if i == len(b) {
		return false
	}
	s := i
	for i < len(b) && !stop[b[i]] {
		i++
	}
	p.name = b[s:i]
	for i < len(b) && blank(b[i]) {
		i++
	}
	if i == len(b) || b[i] != '=' || len(p.name) == 0 {
		p.bad = true
		return false
	}
	for i++; i < len(b) && blank(b[i]); i++ {
	}
	s = i
	if i < len(b) && b[i] == '"' {
		if i = closing(b, i+1); i < 0 {
			p.bad = true
			return false
		}
		p.value = b[s+1 : i : i]
		i++
	} else {
		for i < len(b) && (!stop[b[i]] || b[i] == '=') {
			i++
		}
		p.value = b[s:i:i]
	}
	for i < len(b) && blank(b[i]) {
		i++
	}
	if i < len(b) && b[i] != ',' {
		p.bad = true
		return false
	}
	p.rest = b[i:]
	return true
}

// stop holds what ends a name.
var stop = [256]bool{'=': true, ',': true, '"': true, ' ': true, '\t': true, '\r': true, '\n': true}

// closing gives the index of the quote that ends a quoted text, -1 if there is none.
func closing(b []byte, i int) int {
	for from := i; ; i++ {
		k := bytes.IndexByte(b[i:], '"')
		if k < 0 {
			return -1
		}
		i += k
		slashes := 0
		for i-slashes > from && b[i-slashes-1] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// foldEqual compares in any case of ASCII letters.
func foldEqual(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if lower(c) != lower(s[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// unhex gives a hexadecimal digit's value, more than 15 for what is none.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

func unquote(b []byte) string {
	s := string(b)
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// listed says whether a comma-separated list holds the word.
func listed(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(w), word) {
			return true
		}
	}
	return false
}
