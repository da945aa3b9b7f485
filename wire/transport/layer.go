// Package transport carries SIP messages over UDP, TCP, TLS, WebSocket and between two roles of one process.
//
// Specs: RFC 3261 §18 (transport), RFC 3581 (rport), RFC 5626 §3.5 and §4.4 (keep-alive), RFC 5923 (connection reuse),
// RFC 7118 (WebSocket). Sockets are handed in; this package opens none.
//
// Goroutines: one reader per UDP socket and one per connection, each the caller of ServePacket, ServeConn or of the
// WebSocket handler; Config.Receive is called on it, so that messages of one link stay in order. A connection has a writer
// only while octets wait. A TLS handshake has a goroutine of its own, whose grown stack goes away with it. One sweeper per
// Layer closes connections that are over their time; it lives only while there are connections.
//
// Locks: Layer.mu guards the tables of links; each link's own mutex guards its queue. No lock is held while Receive runs.
package transport

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fernamt/wire/sip"
)

// Config is what a Layer needs from its owner.
type Config struct {
	// Receive is handed every message that parses, on the reader's goroutine, requests with received and rport in their
	// top Via. The message is valid until Receive returns.
	Receive func(m *sip.Message)
	// Dial opens a connection to hop (TCP or TLS with the handshake done) and gives the names that the peer's verified
	// certificate carries. nil: nothing is dialled.
	Dial func(ctx context.Context, hop sip.Hop) (net.Conn, []string, error)
	// Trace sees every message's octets as they travel; see SetTrace.
	Trace func(out bool, f sip.Flow, b []byte)
	// Closed is told that a connection is gone. It is called once per connection, on its reader's goroutine.
	Closed func(id uint64)
	// Origins lists the host patterns whose web pages may open a WebSocket, besides the host that they ask.
	Origins []string
	// Pace, when not 0, is how long a UDP reader sleeps between two drains while traffic is dense. It saves CPU and
	// costs up to that much latency; 200 to 500 µs are sensible.
	Pace   time.Duration
	Limits Limits
	Log    *slog.Logger
}

// Limits bound what peers may take. A zero field means its default.
type Limits struct {
	Datagram    int            // octets of one datagram; more is answered 513; 65,535
	Header      int            // octets of a stream message's header; 64 KiB
	Body        int            // octets of a stream message's body; 1 MiB
	Queue       int            // octets waiting for one connection; 256 KiB, then the connection ends
	Connections int            // connections at once; 16,384
	PerAddress  int            // connections from one IPv4 address or IPv6 /64; 100
	Trusted     []netip.Prefix // addresses that PerAddress does not count
	Handshake   time.Duration  // TLS handshake; 5 s
	Dial        time.Duration  // opening a connection; 5 s
	Message     time.Duration  // from a message's first octet to the end of its header; 10 s
	Rest        time.Duration  // from there to the end of its body; 30 s
	Idle        time.Duration  // without a whole message, while nobody called Keep; 30 s
	Kept        time.Duration  // without an octet, on a connection that we dialled or whose peer proved its name; 10 min
	Write       time.Duration  // one write; 10 s
	Keepalives  int            // STUN requests answered per address and second; 500
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		v   *int
		def int
	}{{&l.Datagram, 65535}, {&l.Header, 64 << 10}, {&l.Body, 1 << 20}, {&l.Queue, 256 << 10}, {&l.Connections, 16384},
		{&l.PerAddress, 100}, {&l.Keepalives, 500}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&l.Handshake, 5 * time.Second}, {&l.Dial, 5 * time.Second}, {&l.Message, 10 * time.Second},
		{&l.Rest, 30 * time.Second}, {&l.Idle, 30 * time.Second}, {&l.Kept, 10 * time.Minute},
		{&l.Write, 10 * time.Second}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	return l
}

// What can go wrong with a link.
var (
	ErrClosed    = errors.New("link is closed")
	ErrQueueFull = errors.New("peer does not read: queue is full")
	ErrTooMany   = errors.New("too many connections")
	ErrNoRoute   = errors.New("no socket for that hop")
)

// Layer is the transports of one process, or of one role.
type Layer struct {
	c     Config
	log   *slog.Logger
	ctx   context.Context // ends with Close; dialled connections and the sweeper hang on it
	stop  context.CancelFunc
	trace atomic.Pointer[func(out bool, f sip.Flow, b []byte)]
	last  atomic.Uint64 // last link id given out
	count counters
	seed  maphash.Seed
	bare  func(f sip.Flow, b []byte) // benchmarks: datagrams go here, unread

	mu      sync.RWMutex
	sockets []*socket
	conns   map[uint64]*conn
	places  map[place][]*conn
	from    map[netip.Addr]int // connections per neighbourhood
	opened  int                // connections admitted
	dialing map[sip.Hop]*dialing
	swept   chan struct{} // ends the sweeper; nil while there is none
}

// place is where a connection leads.
type place struct {
	transport sip.Transport
	addr      netip.AddrPort
}

// New makes a Layer. It serves what is handed to its Serve methods and to the WebSocket handler.
func New(c Config) *Layer {
	c.Limits = c.Limits.withDefaults()
	l := &Layer{c: c, log: c.Log, conns: map[uint64]*conn{}, places: map[place][]*conn{}, from: map[netip.Addr]int{},
		dialing: map[sip.Hop]*dialing{}, seed: maphash.MakeSeed()}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	// A flow token that outlives a restart must not find somebody else's link.
	l.last.Store(rand.Uint64())
	l.SetTrace(c.Trace)
	return l
}

// Close ends the connections that the Layer dialled and refuses new ones. What is served ends with its own context.
func (l *Layer) Close() { l.stop() }

// SetTrace makes f see every message's octets, in (out false) and out. nil turns it off, then it costs one load.
// f is called on the goroutine that receives or sends, and must not keep b.
func (l *Layer) SetTrace(f func(out bool, f sip.Flow, b []byte)) {
	if f == nil {
		l.trace.Store(nil)
		return
	}
	l.trace.Store(&f)
}

// describe gives the link's description a place and an id of its own.
func (l *Layer) describe(in sip.LinkInfo) *sip.LinkInfo {
	for in.ID == 0 {
		in.ID = l.last.Add(1)
	}
	return &in
}

// Find gives a way to hop that is open already: the UDP socket for its family, or a live connection that we dialled there
// or that came from there. It never blocks. A TLS connection is reused only for a name that its certificate proves, or
// when hop is the very address and port that it came from (RFC 5923).
func (l *Layer) Find(hop sip.Hop) (sip.Flow, bool) { return l.FindAt("", hop) }

// FindAt is Find among the UDP sockets of one door ("" = any). Connections are found whatever their door.
func (l *Layer) FindAt(door string, hop sip.Hop) (sip.Flow, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if hop.Transport == sip.UDP {
		if s := l.socketLocked(door, hop.Addr.Addr()); s != nil {
			return sip.Flow{Link: s, Remote: unmap(hop.Addr)}, true
		}
		return sip.Flow{}, false
	}
	for _, c := range l.places[place{hop.Transport, unmap(hop.Addr)}] {
		if c.serves(hop) {
			return c.flow(), true
		}
	}
	return sip.Flow{}, false
}

// ByID gives a connection by its link's id, as flow tokens name it. For a UDP socket the flow lacks its Remote, which the
// caller knows.
func (l *Layer) ByID(id uint64) (sip.Flow, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if c := l.conns[id]; c != nil {
		return c.flow(), true
	}
	for _, s := range l.sockets {
		if s.info.ID == id {
			return sip.Flow{Link: s}, true
		}
	}
	return sip.Flow{}, false
}

// Keep lets connection id live until it is silent for idle; 0 = for ever. Route calls it when a sign-in succeeded.
func (l *Layer) Keep(id uint64, idle time.Duration) {
	l.mu.RLock()
	c := l.conns[id]
	l.mu.RUnlock()
	if c != nil {
		c.keep(idle)
	}
}

// End closes connection id, say because its peer misbehaves.
func (l *Layer) End(id uint64) {
	l.mu.RLock()
	c := l.conns[id]
	l.mu.RUnlock()
	if c != nil {
		c.end(ErrClosed)
	}
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
