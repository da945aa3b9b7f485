package sip

import "net/netip"

// MagicCookie begins each branch that is unique by itself.
// RFC 3261 §8.1.1.7
const MagicCookie = "z9hG4bK"

// Via is one element of a Via header. All fields are views.
// RFC 3261 §20.42
type Via struct {
	Transport     Transport // 0 when it is none of ours
	TransportName []byte    // as written: "UDP", "tcp", "SCTP"
	Version       []byte    // "2.0"
	Host          []byte    // IPv6 with its brackets; Addr gives the number
	Port          uint16    // 0: none
	Branch        []byte    // nil: an RFC 2543 peer (or pidgin-sipe within its dialogs)
	Params        []byte    // ";a=b;c", branch among them

	asked  bool // rport is there
	forged bool // received, or rport with a value, which only a receiver writes
	behind int  // octets behind rport
}

// ParseVia reads one element; blanks are allowed around each of its parts.
func ParseVia(b []byte) (Via, error) {
	var v Via
	err := v.parse(trim(b))
	return v, err
}

// parse fills a zero Via.
func (v *Via) parse(b []byte) error {
	i := 0
	if len(b) > 8 && string(b[:8]) == "SIP/2.0/" {
		v.Version = b[4:7]
		i = skip(b, 8)
	} else {
		s := span(b, 0, cToken)
		if !equalLower(b[:s], "sip") {
			return errVia
		}
		if i = skip(b, s); i >= len(b) || b[i] != '/' {
			return errVia
		}
		s = skip(b, i+1)
		if i = span(b, s, cToken); i == s {
			return errVia
		}
		v.Version = b[s:i]
		if i = skip(b, i); i >= len(b) || b[i] != '/' {
			return errVia
		}
		i = skip(b, i+1)
	}
	s := i
	if i = span(b, s, cToken); i == s || i >= len(b) || !isBlank(b[i]) {
		return errVia
	}
	v.TransportName = b[s:i]
	v.Transport = TransportOf(v.TransportName)
	return v.parseSentBy(b[skip(b, i):])
}

// parseSentBy reads host, port and parameters.
func (v *Via) parseSentBy(b []byte) error {
	host, port, rest, ok := hostPort(b)
	if !ok { // blanks around the colon
		i := span(b, 0, cHost)
		if i == 0 || i == len(b) {
			return errVia
		}
		host, rest = b[:i], b[i:]
	}
	v.Host, v.Port = host, port
	i := skip(rest, 0)
	if i < len(rest) && rest[i] == ':' && port == 0 {
		s := skip(rest, i+1)
		i = span(rest, s, cDigit)
		n, good := number(rest[s:i], 65535)
		if !good {
			return errVia
		}
		v.Port = uint16(n)
		i = skip(rest, i)
	}
	v.Params = rest[i:]
	for p := v.Params; ; {
		name, value, next, good := nextParam(p)
		if !good {
			if len(next) > 0 {
				return errVia
			}
			return nil
		}
		switch {
		case len(name) == 6 && v.Branch == nil && equalLower(name, "branch"):
			v.Branch = value
		case len(name) == 5 && equalLower(name, "rport"):
			v.forged = v.forged || v.asked || value != nil
			v.asked, v.behind = true, len(next)
		case len(name) == 8 && equalLower(name, "received"):
			v.forged = true
		}
		p = next
	}
}

// TransportOf gives the transport of a name in Via or of a transport parameter, in any
// case; 0 if it is none of ours.
func TransportOf(name []byte) Transport {
	switch len(name) {
	case 2:
		if equalLower(name, "ws") {
			return WS
		}
	case 3:
		switch name[0] | 0x20 {
		case 'u':
			if equalLower(name, "udp") {
				return UDP
			}
		case 't':
			if equalLower(name, "tcp") {
				return TCP
			}
			if equalLower(name, "tls") {
				return TLS
			}
		case 'w':
			if equalLower(name, "wss") {
				return WSS
			}
		}
	}
	return 0
}

// Param finds a parameter; name in lower case.
func (v Via) Param(name string) ([]byte, bool) { return Param(v.Params, name) }

// Addr gives the host as a number if it is one.
func (v Via) Addr() (netip.Addr, bool) { return parseAddr(v.Host) }

// Cookie says that the branch is unique by itself, so that it can be a transaction's key.
func (v Via) Cookie() bool {
	return len(v.Branch) > len(MagicCookie) && string(v.Branch[:len(MagicCookie)]) == MagicCookie
}

// ReplyFlow gives the way that a response to m takes: back on the connection, or on
// UDP to the source address and the port that RFC 3261 §18.2.2 and RFC 3581 §4 name.
// maddr is not followed: it would let anybody aim our answers at others.
func (m *Message) ReplyFlow() Flow {
	f := m.Flow
	if f.Link.Info().Transport != UDP {
		return f
	}
	via, err := m.Via()
	if err != nil {
		return f
	}
	if _, ok := via.Param("rport"); ok {
		return f
	}
	port := via.Port
	if port == 0 {
		port = 5060
	}
	f.Remote = netip.AddrPortFrom(f.Remote.Addr(), port)
	return f
}
