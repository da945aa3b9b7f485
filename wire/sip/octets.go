package sip

// Classes of octets, as bits of one table.
const (
	cToken  = 1 << iota // RFC 3261 §25.1 token
	cHost               // of a host name; the underscore is no legal one but is met
	cURI                // may stand in a URI's user, parameters and headers as it is
	cScheme             // of a URI scheme
	cDigit
	cHex
	cDisplay // of a display name without quotes, read generously
)

var class = buildClass()

func buildClass() (t [256]uint8) {
	for c := range 256 {
		digit := c >= '0' && c <= '9'
		alpha := c|0x20 >= 'a' && c|0x20 <= 'z' && c < 128
		if digit || alpha {
			t[c] |= cToken | cHost | cScheme
		}
		if digit {
			t[c] |= cDigit
		}
		if digit || c|0x20 >= 'a' && c|0x20 <= 'f' && c < 128 {
			t[c] |= cHex
		}
		if c > ' ' && c != 0x7f && c != '<' && c != '>' && c != '"' {
			t[c] |= cURI
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[c] |= cDisplay
		}
	}
	for _, c := range "-.!%*_+`'~" {
		t[c] |= cToken
	}
	for _, c := range "-._" {
		t[c] |= cHost
	}
	for _, c := range "+-." {
		t[c] |= cScheme
	}
	for _, c := range "<>\",;\\" {
		t[c] &^= cDisplay
	}
	return t
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func lowerByte(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// equalLower compares b, in any case, with a name given in lower case.
func equalLower(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c != lower[i] && lowerByte(c) != lower[i] {
			return false
		}
	}
	return true
}

// equalFold compares two values in any case of ASCII letters.
func equalFold[T string | []byte](a []byte, b T) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if c != b[i] && lowerByte(c) != lowerByte(b[i]) {
			return false
		}
	}
	return true
}

// trim cuts blanks and line ends from both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// skip gives the index of the first octet from i on that is no blank.
func skip(b []byte, i int) int {
	for i < len(b) && isBlank(b[i]) {
		i++
	}
	return i
}

// span gives the index of the first octet from i on that is not of class c.
func span(b []byte, i int, c uint8) int {
	for i < len(b) && class[b[i]]&c != 0 {
		i++
	}
	return i
}

// number reads an unsigned decimal of at most max; all of b must be digits.
func number(b []byte, max uint64) (uint64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n = n*10 + uint64(c-'0'); n > max {
			return 0, false
		}
	}
	return n, true
}

// quoted gives the index just behind the quoted string that starts at b[i], or -1.
func quoted(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// unhex gives the value of a hexadecimal digit.
func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// appendUnescaped undoes %-escapes once. What is no escape stays as it is.
func appendUnescaped(dst, b []byte) []byte {
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c == '%' && i+2 < len(b) && class[b[i+1]]&cHex != 0 && class[b[i+2]]&cHex != 0 {
			c = unhex(b[i+1])<<4 | unhex(b[i+2])
			i += 2
		}
		dst = append(dst, c)
	}
	return dst
}

// escapes walks over b with its %-escapes undone.
type escapes struct{ b []byte }

func (e *escapes) next() (byte, bool) {
	if len(e.b) == 0 {
		return 0, false
	}
	c := e.b[0]
	if c == '%' && len(e.b) > 2 && class[e.b[1]]&cHex != 0 && class[e.b[2]]&cHex != 0 {
		c = unhex(e.b[1])<<4 | unhex(e.b[2])
		e.b = e.b[3:]
		return c, true
	}
	e.b = e.b[1:]
	return c, true
}

// equalEscaped compares with escapes undone, in any case when fold is set.
func equalEscaped(a, b []byte, fold bool) bool {
	x, y := escapes{a}, escapes{b}
	for {
		c, ok := x.next()
		d, ok2 := y.next()
		if ok != ok2 {
			return false
		}
		if !ok {
			return true
		}
		if c != d && (!fold || lowerByte(c) != lowerByte(d)) {
			return false
		}
	}
}
