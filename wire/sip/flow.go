package sip

import "net/netip"

// Transport is how octets travel, as named in Via (RFC 3261 §20.42, RFC 7118 §5.2).
type Transport uint8

// The transports. Local is the hop between two roles of one process.
const (
	UDP Transport = iota + 1
	TCP
	TLS
	WS
	WSS
	Local
)

var transportNames = [...]string{"", "UDP", "TCP", "TLS", "WS", "WSS", "TLS"}

// String gives the name as it stands in Via. A local hop counts as TLS: it is as safe.
func (t Transport) String() string { return transportNames[t] }

// Reliable says that the transport itself resends what is lost (RFC 3261 §17).
func (t Transport) Reliable() bool { return t != UDP }

// Secure says that nobody on the way can read along.
func (t Transport) Secure() bool { return t == TLS || t == WSS || t == Local }

// Link is a socket or a connection that SIP travels on. Many goroutines may use it at once.
type Link interface {
	// Send puts b on the way and does not keep it. A stream ignores to. The error
	// says that the link is gone or that its queue is full.
	Send(to netip.AddrPort, b []byte) error
	// Info describes the link; the same pointer for the link's whole life.
	Info() *LinkInfo
}

// LinkInfo says what a link is. Nothing in it changes after the link's first message.
type LinkInfo struct {
	ID        uint64         // unique in this process, never 0
	Transport Transport      //
	Local     netip.AddrPort // our end
	Door      string         // the door it came in by ("frontend/sips"); "" when we dialled
	External  bool           // the door looks at people outside
	Peer      []string       // names that the peer's verified certificate carries (RFC 5922 §7.1); nil without mutual TLS
	Dialled   bool           // we opened it
}

// Flow is one way to one peer: a link, and on UDP the peer's address (RFC 5626 §3.2).
// It is a value: copy and compare it freely.
type Flow struct {
	Link   Link
	Remote netip.AddrPort
}

// Send sends b to the peer.
func (f Flow) Send(b []byte) error { return f.Link.Send(f.Remote, b) }

// Hop is a place to send to, as RFC 3263 §4 finds it.
type Hop struct {
	Transport Transport
	Addr      netip.AddrPort
	Host      string // the name that led here: SNI, and what the certificate must say (RFC 5922 §4)
}
