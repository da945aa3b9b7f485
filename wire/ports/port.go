// Package ports says what a door is: a number, what travels through it, which side it looks at, and which rows of
// the seed's table it answers. It is pure data: it opens nothing (core/listen does) and has no goroutines and no locks.
// It checks a list of doors, prints it, and answers the seed's 73 rows.
package ports

import (
	"fmt"
	"strconv"
	"strings"
)

// Transport is what the kernel offers below a door.
type Transport uint8

// The transports.
const (
	UDP Transport = iota + 1
	TCP
)

// String gives "udp" or "tcp".
func (t Transport) String() string { return name(t, "", "udp", "tcp") }

// TLS says whether a door is encrypted, and who must show a certificate.
type TLS uint8

// The kinds. At a Server door that speaks SIP a client may show a certificate; at a Mutual door it must.
const (
	None TLS = iota
	Server
	Mutual
)

// String gives "none", "server" or "mutual".
func (t TLS) String() string { return name(t, "none", "server", "mutual") }

// Side is where the people or servers at the other end of a door are.
type Side uint8

// The sides. Loopback doors are for this machine alone.
const (
	Internal Side = iota
	External
	Loopback
)

// String gives "internal", "external" or "loopback".
func (s Side) String() string { return name(s, "internal", "external", "loopback") }

// Use is what is done with a number.
type Use uint8

// The uses: Listen waits there, Dial goes out to it, Draw takes single numbers of a range from the media pool.
const (
	Listen Use = iota
	Dial
	Draw
)

// String gives "listen", "dial" or "draw".
func (u Use) String() string { return name(u, "listen", "dial", "draw") }

func name[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return strconv.Itoa(int(v))
}

// Port is one door: the row that a role writes once, in its Ports().
type Port struct {
	Name      string    // role and door, "frontend/sips"; unique
	From, To  int       // the number, or the range with both ends; To 0 means From
	Transport Transport //
	Protocol  string    // sip sips ws wss http https turn turns psom rtp dns postgres hep manage …
	TLS       TLS       //
	Side      Side      //
	Use       Use       //
	Names     []string  // server names (SNI) that belong to this door alone; nil: any. Tells two https doors apart
	Seed      []string  // rows of the seed that this door answers: "R01"
	Purpose   string    // what it is for, in English
	Zweck     string    // the same in German
	Spec      string    // where the protocol is written down: "RFC 3261 §18"
}

// Last is the range's last number; a single door's own number.
func (p Port) Last() int {
	if p.To == 0 {
		return p.From
	}
	return p.To
}

// Fixed says that the door listens at one number, as opposed to a range or an outgoing door.
func (p Port) Fixed() bool { return p.Use == Listen }

// Number gives "5060" or "49152-65535".
func (p Port) Number() string {
	if p.Last() != p.From {
		return fmt.Sprintf("%d-%d", p.From, p.To)
	}
	return strconv.Itoa(p.From)
}

// String gives "frontend/sips (tcp 5061)", as errors name a door.
func (p Port) String() string { return fmt.Sprintf("%s (%s %s)", p.Name, p.Transport, p.Number()) }

// Family is what a connection can be recognised as by its first octets.
type Family uint8

// The families. Other cannot be told by first octets, so it shares a socket with nobody.
const (
	Other Family = iota
	SIP
	HTTP
	TURN
)

// String gives the family's name.
func (f Family) String() string { return name(f, "other", "sip", "http", "turn") }

// Family of the door's protocol.
func (p Port) Family() Family {
	switch strings.ToLower(p.Protocol) {
	case "sip", "sips":
		return SIP
	case "http", "https", "ws", "wss":
		return HTTP
	case "turn", "turns", "stun", "stuns":
		return TURN
	}
	return Other
}

// ALPN lists what a client of this door may say in TLS (RFC 7301), best first. A client that says nothing, or
// something else, is told apart by its first octets.
func (p Port) ALPN() []string {
	switch strings.ToLower(p.Protocol) {
	case "sips":
		return []string{"sip/2"}
	case "https":
		return []string{"h2", "http/1.1"}
	case "wss":
		return []string{"http/1.1"}
	case "turns", "stuns":
		return []string{"stun.turn", "stun.nat-discovery"} // RFC 7443 §4
	}
	return nil
}
