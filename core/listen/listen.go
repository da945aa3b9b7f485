// Package listen opens doors: it is the only place of the project where sockets come from.
//
// A role declares its doors (wire/ports) and opens them by name; what was not declared cannot be opened. Several doors
// share one socket when a connection tells by its first octets, its server name or its ALPN which of them it wants.
// The network below is the kernel's or a simulated one, so that a whole suite runs inside one test.
//
// Specs: RFC 5922 (names in SIP certificates), RFC 7301 (ALPN), RFC 6066 §3 (server name).
//
// Goroutines: one per listening TCP socket accepts; one per new connection reads the first octets and does the TLS
// handshake, and ends when the connection is handed to its door. Doors.Close ends them all. Doors.mu guards the list of
// doors, sockets and drawn ports; socket.mu guards a socket's doors and the connections that have not said what they
// want; nothing is called out with either held but the Network's bind.
package listen

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"fernamt/wire/ports"
)

// Network is what doors are opened on: Kernel() or a host of a Sim.
type Network interface {
	// Listen binds a TCP socket. Port 0 asks for any.
	Listen(ctx context.Context, at netip.AddrPort) (net.Listener, error)
	// ListenPacket binds a UDP socket; the kernel's is a *net.UDPConn.
	ListenPacket(ctx context.Context, at netip.AddrPort) (net.PacketConn, error)
	// Dial connects by TCP. The zero from lets the network choose.
	Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error)
	// DialPacket gives a UDP socket that talks to one peer.
	DialPacket(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error)
}

// Keys hands out what TLS needs. It is asked at every handshake, so a new certificate counts from the next
// connection on and no living one is dropped.
type Keys interface {
	// Certificate to show at a door to a client that asked for name ("" when it named nobody).
	Certificate(door, name string) (*tls.Certificate, error)
	// ClientCertificate to show when dialling through a door, if asked for one; nil: none.
	ClientCertificate(door string) (*tls.Certificate, error)
	// Internal is the authority whose certificates prove a peer internal.
	Internal() *x509.CertPool
	// Public is whom to trust for peers outside; nil: the system's list.
	Public() *x509.CertPool
}

// Limits bound what a stranger may hold. Zero fields take the defaults.
type Limits struct {
	FirstOctets       time.Duration // until a connection has said what it wants; 5 s
	Handshake         time.Duration // for TLS, either way; 5 s
	Stalled           int           // connections per socket that have not said yet, the oldest goes first; 2048
	StalledPerAddress int           // the same per peer address; 256
	PerAddress        int           // connections per socket and peer address, this machine's own aside; 4096
}

func (l Limits) withDefaults() Limits {
	if l.FirstOctets == 0 {
		l.FirstOctets = 5 * time.Second
	}
	if l.Handshake == 0 {
		l.Handshake = 5 * time.Second
	}
	if l.Stalled == 0 {
		l.Stalled = 2048
	}
	if l.StalledPerAddress == 0 {
		l.StalledPerAddress = 256
	}
	if l.PerAddress == 0 {
		l.PerAddress = 4096
	}
	return l
}

// Config says where and how doors are opened.
type Config struct {
	Network   Network                     // nil: the kernel's
	Offset    int                         // added to every fixed listening number
	Addresses map[ports.Side][]netip.Addr // per side; a side that is not there: every address, Loopback: 127.0.0.1 and ::1
	At        map[string][]netip.Addr     // per door, before Addresses
	Keys      Keys                        // needed by doors with TLS
	Limits    Limits                      //
	Log       *slog.Logger                // nil: silent
}

// Doors are all doors of one host. Its functions may be called from any goroutine.
type Doors struct {
	c    Config
	log  *slog.Logger
	work sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	declared []declared
	open     map[string]*Door
	sockets  map[place]*socket
	fixed    map[int]string // numbers that are never drawn, and whose they are
	moved    []Move
	drawn    []drawn
	pruneAt  int
	dialled  map[*outbound]struct{}
}

// declared is a door and who declared it.
type declared struct {
	ports.Port
	owner string
}

// place is where a socket was asked for, before any move.
type place struct {
	transport ports.Transport
	at        netip.AddrPort
}

// Move tells of a door that could not be opened at its own number.
type Move struct {
	Door     string
	Address  netip.Addr
	From, To int
}

// New makes the doors of one host. Nothing is opened yet.
func New(c Config) *Doors {
	if c.Network == nil {
		c.Network = Kernel()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	c.Limits = c.Limits.withDefaults()
	return &Doors{
		c: c, log: c.Log, open: map[string]*Door{}, sockets: map[place]*socket{}, fixed: map[int]string{},
		dialled: map[*outbound]struct{}{},
	}
}

// Declare adds an owner's doors. The error names both owners of a clash; then none of ps is added.
func (d *Doors) Declare(owner string, ps []ports.Port) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Clone(d.declared)
	for _, p := range ps {
		if err := p.Check(); err != nil {
			return fmt.Errorf("declare doors of %s: %w", owner, err)
		}
		if n := p.Last() + d.c.Offset; p.Use == ports.Listen && (n > 65535 || n < 1) {
			return fmt.Errorf("declare doors of %s: offset %d puts %s at %d, beyond 65535", owner, d.c.Offset, p, n)
		}
		next := declared{p, owner}
		for _, old := range all {
			if err := d.clash(old, next); err != nil {
				return fmt.Errorf("declare doors of %s, against %s: %w", owner, old.owner, err)
			}
		}
		all = append(all, next)
	}
	for _, p := range all[len(d.declared):] {
		if p.Use != ports.Listen {
			continue
		}
		d.fixed[p.From+d.c.Offset] = p.Name
		if n := p.From + d.c.Offset; n < lowest {
			d.fixed[n+moveBy] = p.Name
		}
	}
	d.declared = all
	return nil
}

// clash also looks across sides: two sides may have been given one address.
func (d *Doors) clash(a, b declared) error {
	if err := ports.Clash(a.Port, b.Port); err != nil {
		return err
	}
	if a.Use != ports.Listen || b.Use != ports.Listen || a.Transport != b.Transport || a.From != b.From {
		return nil
	}
	for _, addr := range d.addresses(a.Port) {
		if slices.Contains(d.addresses(b.Port), addr) {
			return ports.CannotShare(a.Port, b.Port)
		}
	}
	return nil
}

// Declared lists every door in the order of declaration, with the numbers of the table.
func (d *Doors) Declared() []ports.Port {
	d.mu.Lock()
	defer d.mu.Unlock()
	ps := make([]ports.Port, len(d.declared))
	for i, p := range d.declared {
		ps[i] = p.Port
	}
	return ps
}

// Moved lists the doors that stand at another number than asked, for want of the right to open it.
func (d *Doors) Moved() []Move {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.moved)
}

// find gives the declared door of that name. d.mu is held.
func (d *Doors) findLocked(name string, use ports.Use) (declared, error) {
	for _, p := range d.declared {
		if p.Name != name {
			continue
		}
		if p.Use != use {
			return declared{}, fmt.Errorf("door %s was declared to %s, not to %s", p, p.Use, use)
		}
		return p, nil
	}
	return declared{}, fmt.Errorf("door %q was not declared", name)
}

// addresses says where a door stands.
func (d *Doors) addresses(p ports.Port) []netip.Addr {
	if at := d.c.At[p.Name]; len(at) > 0 {
		return at
	}
	if at := d.c.Addresses[p.Side]; len(at) > 0 {
		return at
	}
	if p.Side == ports.Loopback {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
}

// chosen says whether the settings name the door's addresses; otherwise a missing address family is no fault.
func (d *Doors) chosen(p ports.Port) bool {
	return len(d.c.At[p.Name]) > 0 || len(d.c.Addresses[p.Side]) > 0
}

// Close closes every listening socket, cuts off connections that no door has yet, and waits for the goroutines to end.
// Connections and ports that were handed out belong to those who took them.
func (d *Doors) Close() error {
	d.mu.Lock()
	d.closed = true
	doors := make([]*Door, 0, len(d.open))
	for _, door := range d.open {
		doors = append(doors, door)
	}
	d.mu.Unlock()
	for _, door := range doors {
		door.Close()
	}
	d.work.Wait()
	return nil
}
