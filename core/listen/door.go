package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"fernamt/wire/ports"
)

const (
	lowest = 1024  // numbers below need a right
	moveBy = 10000 // where a door goes without it
	queued = 128   // connections that wait for Accept
)

// Door is an open listening door.
type Door struct {
	ports.Port
	doors   *Doors
	conns   chan *Conn
	done    chan struct{}
	once    sync.Once
	sockets []*socket // guarded by Doors.mu
}

// Packet is a UDP socket of a door.
type Packet struct {
	net.PacketConn                // the kernel's is a *net.UDPConn
	Local          netip.AddrPort // the real address and number
	Door           string         //
	External       bool           // the door looks at people outside
}

// Conn is a connection that has said which door it wants.
type Conn struct {
	net.Conn                     // TLS is taken off; what was read ahead is read again
	Local, Remote netip.AddrPort // our end, the peer's
	Door          string
	Protocol      string   // the door's, as declared: "sips"
	SNI, ALPN     string   // what the client said in TLS, "" if nothing
	PeerNames     []string // names of the peer's certificate (RFC 5922 §7.1), proved by the internal authority; nil otherwise
	External      bool     // the socket looks at people outside and the peer has not proved to be internal
	secure        *tls.Conn
}

// TLS tells the state of the connection's TLS; false when it has none.
func (c *Conn) TLS() (tls.ConnectionState, bool) {
	if c.secure == nil {
		return tls.ConnectionState{}, false
	}
	return c.secure.ConnectionState(), true
}

// SyscallConn is the descriptor of a connection in clear of which nothing is read ahead, so that a reader can wait without
// a buffer; an error otherwise.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return descriptor(c.Conn) }

// Open opens a declared door on each of its addresses, all or none.
func (d *Doors) Open(name string) (*Door, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, err := d.findLocked(name, ports.Listen)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	switch {
	case d.closed:
		return nil, fmt.Errorf("open %s: %w", name, net.ErrClosed)
	case d.open[name] != nil:
		return nil, fmt.Errorf("open %s: it is open", name)
	case p.TLS != ports.None && d.c.Keys == nil:
		return nil, fmt.Errorf("open %s: it needs a certificate and there is none", name)
	}
	door := &Door{Port: p.Port, doors: d, conns: make(chan *Conn, queued), done: make(chan struct{})}
	var skipped error
	for _, addr := range d.addresses(p.Port) {
		s, err := d.socketLocked(p.Port, addr)
		if err != nil && !d.chosen(p.Port) && noFamily(err) {
			skipped = err
			continue
		}
		if err != nil {
			d.leaveLocked(door)
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
		door.sockets = append(door.sockets, s)
		s.join(door)
	}
	if len(door.sockets) == 0 {
		return nil, fmt.Errorf("open %s: %w", name, skipped)
	}
	d.open[name] = door
	return door, nil
}

// socketLocked finds the socket of that place or opens it. d.mu is held.
func (d *Doors) socketLocked(p ports.Port, addr netip.Addr) (*socket, error) {
	n := p.From + d.c.Offset
	where := place{p.Transport, netip.AddrPortFrom(addr, uint16(n))}
	if s := d.sockets[where]; s != nil {
		return s, nil
	}
	s, err := d.bind(where, where.at)
	if n < lowest && errors.Is(err, syscall.EACCES) {
		s, err = d.bind(where, netip.AddrPortFrom(addr, uint16(n+moveBy)))
		if err == nil {
			d.moved = append(d.moved, Move{p.Name, addr, n, n + moveBy})
			d.log.Warn("door moved, no right to open its number", "door", p.Name, "from", n, "to", n+moveBy)
		}
	}
	if err != nil {
		return nil, err
	}
	d.sockets[where] = s
	if s.l != nil {
		d.work.Add(1)
		go s.accept()
	}
	return s, nil
}

// bind opens one socket and says in words what stands in the way.
func (d *Doors) bind(where place, at netip.AddrPort) (*socket, error) {
	s := &socket{d: d, where: where, done: make(chan struct{})}
	var err error
	ctx := context.Background()
	if where.transport == ports.UDP {
		if s.pc, err = d.c.Network.ListenPacket(ctx, at); err == nil {
			s.local = addrPort(s.pc.LocalAddr())
		}
	} else if s.l, err = d.c.Network.Listen(ctx, at); err == nil {
		s.local = addrPort(s.l.Addr())
	}
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s is taken by %s: end that, give the door another address, or start with --port-offset: %w",
			where.transport, at, d.holder(where.transport, at), err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s %s: this machine does not have that address: set one that it has: %w", where.transport, at, err)
	}
	return nil, fmt.Errorf("%s %s: %w", where.transport, at, err)
}

func noFamily(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// leaveLocked takes a door off its sockets and closes those that nobody uses. d.mu is held.
func (d *Doors) leaveLocked(door *Door) {
	for _, s := range door.sockets {
		if !s.leave(door) {
			d.passOnLocked(s, door)
			continue
		}
		delete(d.sockets, s.where)
		s.close()
		d.moved = slices.DeleteFunc(d.moved, func(m Move) bool {
			return m.Address == s.where.at.Addr() && m.From == int(s.where.at.Port())
		})
	}
	door.sockets = nil
	delete(d.open, door.Name)
}

// passOnLocked takes a UDP socket back from a door that closes. Whoever read it may have closed it, to end the reading;
// the other doors need it, so it is opened anew. d.mu is held.
func (d *Doors) passOnLocked(s *socket, door *Door) {
	if s.owner != door {
		return
	}
	s.owner = nil
	if !isClosed(s.pc) {
		return
	}
	pc, err := d.c.Network.ListenPacket(context.Background(), s.local)
	if err != nil {
		d.log.Error("shared socket lost", "at", s.local, "err", err)
		return
	}
	s.pc = pc
}

// Close closes the door; a socket that other doors share stays open for them.
func (o *Door) Close() error {
	o.once.Do(func() {
		close(o.done)
		o.doors.mu.Lock()
		o.doors.leaveLocked(o)
		o.doors.mu.Unlock()
		for { // whoever was let in but not fetched
			select {
			case c := <-o.conns:
				c.Close()
			default:
				return
			}
		}
	})
	return nil
}

// Accept waits for the next connection. It ends with net.ErrClosed when the door closes, or with ctx.
func (o *Door) Accept(ctx context.Context) (*Conn, error) {
	select {
	case <-o.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-o.conns:
		return c, nil
	case <-o.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// hand gives a connection to the door. False: the door closed or nobody fetches.
func (o *Door) hand(c *Conn, late <-chan struct{}) bool {
	select {
	case <-o.done:
		return false
	default:
	}
	select {
	case o.conns <- c:
	case <-o.done:
		return false
	case <-late:
		return false
	}
	select {
	case <-o.done: // closed meanwhile: nobody may come to fetch it
		return false
	default:
		return true
	}
}

// Packets are the door's UDP sockets, one per address. Of doors that share a socket only the one that asks first gets it,
// and reads for all; when that door closes, the next to ask gets it.
func (o *Door) Packets() []Packet {
	o.doors.mu.Lock()
	defer o.doors.mu.Unlock()
	var ps []Packet
	for _, s := range o.sockets {
		if s.pc != nil && s.owner == nil {
			s.owner = o
		}
		if s.pc != nil && s.owner == o {
			ps = append(ps, Packet{s.pc, s.local, o.Name, o.Side == ports.External})
		}
	}
	return ps
}

// Addresses are the door's real addresses and numbers, offset and moves included.
func (o *Door) Addresses() []netip.AddrPort {
	o.doors.mu.Lock()
	defer o.doors.mu.Unlock()
	var at []netip.AddrPort
	for _, s := range o.sockets {
		at = append(at, s.local)
	}
	return at
}

// addrPort reads an address of the net package; IPv4 stays IPv4.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	default:
		host, port, err := net.SplitHostPort(a.String())
		if err != nil {
			return ap
		}
		ip, _ := netip.ParseAddr(host)
		n, _ := strconv.ParseUint(port, 10, 16)
		ap = netip.AddrPortFrom(ip, uint16(n))
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
