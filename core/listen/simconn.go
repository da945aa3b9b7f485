package listen

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"fernamt/wire/ports"
)

// Bounds of what is under way in one direction.
const (
	simStream    = 256 << 10 // octets of a connection; a writer waits
	simDatagrams = 4096      // datagrams of a socket; more are lost
)

// piece is octets under way.
type piece struct {
	at   time.Time // when it arrives
	from netip.AddrPort
	b    []byte
}

// queue is one direction: what is under way, in order, and whom to wake.
type queue struct {
	mu       sync.Mutex
	pieces   []piece
	size     int
	shut     bool          // the writer closed: end of file after the last piece
	broken   bool          // the reader closed: writing fails
	deadline time.Time     // of reading
	until    time.Time     // of writing
	changed  chan struct{} // closed and replaced at every change
}

func newQueue() *queue { return &queue{changed: make(chan struct{})} }

func (q *queue) change(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f()
	q.wakeLocked()
}

func (q *queue) wakeLocked() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// wait sleeps until the queue or the rules change, or until one of the times; zero times do not count.
func wait(changed, rules <-chan struct{}, times ...time.Time) {
	var clock <-chan time.Time
	var first time.Time
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	if !first.IsZero() {
		timer := time.NewTimer(time.Until(first))
		defer timer.Stop()
		clock = timer.C
	}
	select {
	case <-changed:
	case <-rules:
	case <-clock:
	}
}

func past(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// next waits for the first piece that has arrived and that may pass, and gives it to take, which says how many octets it
// took; the rest stays.
func (q *queue) next(s *Sim, stopped func(p piece) bool, take func(p piece) int) error {
	for {
		s.mu.Lock()
		rules := s.changed
		s.mu.Unlock()
		q.mu.Lock()
		changed, deadline := q.changed, q.deadline
		var p piece
		var have bool
		if len(q.pieces) > 0 {
			p, have = q.pieces[0], true
		}
		switch {
		case q.broken:
			q.mu.Unlock()
			return net.ErrClosed
		case past(deadline):
			q.mu.Unlock()
			return os.ErrDeadlineExceeded
		case !have && q.shut:
			q.mu.Unlock()
			return io.EOF
		}
		q.mu.Unlock()
		arrives := time.Time{}
		if have {
			switch {
			case !past(p.at):
				arrives = p.at
			case stopped(p):
			default:
				if q.taken(take) {
					return nil
				}
				continue // another reader was faster
			}
		}
		wait(changed, rules, deadline, arrives)
	}
}

// taken hands the first piece over.
func (q *queue) taken(take func(p piece) int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pieces) == 0 || q.broken || !past(q.pieces[0].at) {
		return false
	}
	n := take(q.pieces[0])
	q.size -= n
	if q.pieces[0].b = q.pieces[0].b[n:]; len(q.pieces[0].b) == 0 {
		q.pieces = q.pieces[1:]
	}
	q.wakeLocked()
	return true
}

// simListener takes connections of a Sim.
type simListener struct {
	h     *SimHost
	at    netip.AddrPort
	conns chan *simConn
	done  chan struct{}
	once  sync.Once
}

func (l *simListener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
	default:
		select {
		case c := <-l.conns:
			return c, nil
		case <-l.done:
		}
	}
	return nil, opError("accept", "tcp", l.Addr(), net.ErrClosed)
}

func (l *simListener) Close() error {
	l.once.Do(func() {
		l.h.s.mu.Lock()
		delete(l.h.listeners, l.at)
		l.h.s.mu.Unlock()
		close(l.done)
		for {
			select {
			case c := <-l.conns:
				c.Close()
			default:
				return
			}
		}
	})
	return nil
}

func (l *simListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

// simConn is one end of a TCP connection.
type simConn struct {
	s             *Sim
	in, out       *queue
	local, remote netip.AddrPort
	dialled       uint16 // the number that rules go by, in either direction
	once          sync.Once
}

func (c *simConn) Read(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	err = c.in.next(c.s, func(piece) bool {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		return c.s.stopsLocked(ports.TCP, c.remote.Addr(), c.local.Addr(), c.dialled) != nil
	}, func(p piece) int {
		n = copy(b, p.b)
		return n
	})
	if err == io.EOF || err == nil {
		return n, err
	}
	return n, opError("read", "tcp", c.LocalAddr(), err)
}

func (c *simConn) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		c.s.mu.Lock()
		latency := c.s.latency
		c.s.mu.Unlock()
		q := c.out
		q.mu.Lock()
		changed, until := q.changed, q.until
		switch room := simStream - q.size; {
		case q.shut:
			err = net.ErrClosed
		case q.broken:
			err = syscall.EPIPE
		case past(until):
			err = os.ErrDeadlineExceeded
		case room > 0:
			k := min(room, len(b))
			q.pieces = append(q.pieces, piece{at: time.Now().Add(latency), b: append([]byte(nil), b[:k]...)})
			q.size += k
			b, n = b[k:], n+k
			q.wakeLocked()
			q.mu.Unlock()
			continue
		}
		q.mu.Unlock()
		if err != nil {
			return n, opError("write", "tcp", c.LocalAddr(), err)
		}
		wait(changed, nil, until)
	}
	return n, nil
}

// CloseWrite ends what this end says; it still hears.
func (c *simConn) CloseWrite() error {
	c.out.change(func() { c.out.shut = true })
	return nil
}

func (c *simConn) Close() error {
	c.once.Do(func() {
		c.out.change(func() { c.out.shut = true })
		c.in.change(func() { c.in.broken, c.in.pieces, c.in.size = true, nil, 0 })
	})
	return nil
}

func (c *simConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *simConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *simConn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *simConn) SetReadDeadline(t time.Time) error {
	c.in.change(func() { c.in.deadline = t })
	return nil
}

func (c *simConn) SetWriteDeadline(t time.Time) error {
	c.out.change(func() { c.out.until = t })
	return nil
}

// simPacket is a UDP socket.
type simPacket struct {
	h    *SimHost
	at   netip.AddrPort
	peer netip.AddrPort // of a dialled one
	in   *queue
	once sync.Once
}

func (p *simPacket) ReadFrom(b []byte) (n int, from net.Addr, err error) {
	err = p.in.next(p.h.s, func(piece) bool { return false }, func(x piece) int {
		n, from = copy(b, x.b), net.UDPAddrFromAddrPort(x.from)
		return len(x.b)
	})
	if err != nil {
		return 0, nil, opError("read", "udp", p.LocalAddr(), err)
	}
	return n, from, nil
}

func (p *simPacket) WriteTo(b []byte, to net.Addr) (int, error) {
	if p.isClosed() {
		return 0, opError("write", "udp", to, net.ErrClosed)
	}
	s, dst := p.h.s, addrPort(to)
	s.mu.Lock()
	defer s.mu.Unlock()
	src, err := p.h.sourceLocked(p.at.Addr(), dst.Addr())
	if err != nil {
		return 0, opError("write", "udp", to, err)
	}
	host := p.h.peerLocked(dst.Addr())
	if host == nil || s.stopsLocked(ports.UDP, src, dst.Addr(), dst.Port()) != nil {
		return len(b), nil
	}
	from := netip.AddrPortFrom(src, p.at.Port())
	if other, ok := boundLocked(host.packets, dst); ok && (!other.peer.IsValid() || other.peer == from) {
		at := time.Now().Add(s.latency)
		other.in.change(func() {
			if len(other.in.pieces) < simDatagrams && !other.in.broken {
				other.in.pieces = append(other.in.pieces, piece{at, from, append([]byte{}, b...)})
			}
		})
	}
	return len(b), nil
}

func (p *simPacket) Close() error {
	p.once.Do(func() {
		p.h.s.mu.Lock()
		delete(p.h.packets, p.at)
		p.h.s.mu.Unlock()
		p.in.change(func() { p.in.broken = true })
	})
	return nil
}

func (p *simPacket) isClosed() bool {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	return p.in.broken
}

func (p *simPacket) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(p.at) }
func (p *simPacket) SetDeadline(t time.Time) error    { return p.SetReadDeadline(t) }
func (p *simPacket) SetWriteDeadline(time.Time) error { return nil }

func (p *simPacket) SetReadDeadline(t time.Time) error {
	p.in.change(func() { p.in.deadline = t })
	return nil
}

// simPeer is a UDP socket that talks to one peer.
type simPeer struct{ *simPacket }

func (p simPeer) Read(b []byte) (int, error) {
	n, _, err := p.ReadFrom(b)
	return n, err
}

func (p simPeer) Write(b []byte) (int, error) { return p.WriteTo(b, net.UDPAddrFromAddrPort(p.peer)) }
func (p simPeer) RemoteAddr() net.Addr        { return net.UDPAddrFromAddrPort(p.peer) }
