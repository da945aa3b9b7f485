package admin

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Plain is s as a terminal may show it on one line: what strangers sent, a User-Agent
// say, could otherwise move the cursor, change colours or type for the reader. Control
// characters, marks of writing direction and octets that are no UTF-8 stand as in Go.
func Plain(s string) string { return plain(s, false) }

// PlainLines is the same for text of several lines; line ends become "\n", tabs stay.
func PlainLines(s string) string { return plain(strings.ReplaceAll(s, "\r\n", "\n"), true) }

func plain(s string, lines bool) string {
	if strings.IndexFunc(s, unshown) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case lines && (r == '\n' || r == '\t'):
			b.WriteByte(s[0])
		case r == utf8.RuneError && n == 1, unshown(r):
			q := strconv.Quote(s[:n])
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// unshown are the characters that do something instead of being seen.
func unshown(r rune) bool { return r != ' ' && !strconv.IsPrint(r) }
