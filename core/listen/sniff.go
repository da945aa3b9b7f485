package listen

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"fernamt/wire/ports"
)

// A start line says what it is within so many octets.
const startLine = 64

var errUnknown = errors.New("first octets of no protocol that has a door here")

// isHello says whether a connection begins as TLS does: a handshake record of version 3.x (RFC 8446 §5.1).
func isHello(b []byte) bool { return b[0] == 0x16 && b[1] == 3 && !isPseudoHello(b) }

// isPseudoHello is where the counterfeit hello of old OCS clients will be known: they send a fixed TLS 1.0 hello before
// TURN over TCP, to please firewalls, and then go on without TLS. Nobody owns such a door yet.
//
// TODO [MS-TURN] §2.1: compare the hello's fixed octets, answer with the fixed server hello, go on as TURN.
func isPseudoHello([]byte) bool { return false }

// familyOf tells what the first octets are: ok is false while more are needed, and Other means none that is known.
func familyOf(b []byte) (f ports.Family, ok bool) {
	// Empty lines before a SIP message, and keep-alives (RFC 3261 §7.5, RFC 5626 §3.5.1).
	if len(b) > 0 && b[0] == '\r' {
		return ports.SIP, true
	}
	if len(b) == 0 {
		return ports.Other, false
	}
	// STUN has two zero bits first (RFC 8489 §5); over TCP old clients put 2 or 3 before it ([MS-TURN] §2.1).
	if b[0] <= 3 {
		return ports.TURN, true
	}
	method, rest, found := bytes.Cut(b, []byte(" "))
	if !token(method) {
		if v, slash := bytes.CutPrefix(method, []byte("SIP/")); slash && token(v) {
			return ports.SIP, true
		}
		if bytes.HasPrefix([]byte("SIP/"), method) && !found {
			return ports.Other, false
		}
		return ports.Other, true
	}
	if !found || len(rest) == 0 {
		return ports.Other, len(b) > startLine
	}
	return familyOfTarget(method, rest, len(b) > startLine)
}

// familyOfTarget looks at what follows the method: OPTIONS and others stand in both protocols, their targets do not.
func familyOfTarget(method, rest []byte, enough bool) (ports.Family, bool) {
	switch {
	case rest[0] == '/' || rest[0] == '*':
		return ports.HTTP, true
	case bytes.Equal(method, []byte("CONNECT")):
		return ports.HTTP, true
	}
	scheme, _, found := bytes.Cut(rest, []byte(":"))
	if !token(scheme) {
		return ports.Other, true
	}
	if !found {
		return ports.Other, enough
	}
	switch string(bytes.ToLower(scheme)) {
	case "http", "https":
		return ports.HTTP, true
	}
	return ports.SIP, true
}

// token as both protocols have it (RFC 3261 §25.1).
func token(b []byte) bool {
	return len(b) > 0 && !bytes.ContainsFunc(b, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r < 0x7f && bytes.ContainsRune([]byte("-.!%*_+`'~"), r))
	})
}

// byOctets leaves the doors whose protocol the first octets speak. Where all doors speak one, nothing is read.
func byOctets(c *Conn, doors []*Door) ([]*Door, error) {
	if len(doors) == 0 || !slices.ContainsFunc(doors, func(o *Door) bool { return o.Family() != doors[0].Family() }) {
		return doors, nil
	}
	a, ok := c.Conn.(*raw)
	head := &ahead{Conn: c.Conn}
	if ok {
		head = &a.ahead
	} else {
		c.Conn = head
	}
	for n := 1; ; n = len(head.head) + 1 {
		if err := head.need(n); err != nil {
			return nil, fmt.Errorf("first octets: %w", err)
		}
		f, ok := familyOf(head.head)
		if !ok {
			continue
		}
		doors = slices.DeleteFunc(doors, func(o *Door) bool { return o.Family() != f })
		if f == ports.Other || len(doors) == 0 {
			return nil, errUnknown
		}
		return doors, nil
	}
}
