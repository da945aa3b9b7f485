package listen

import (
	"container/list"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"fernamt/wire/ports"
)

// socket is one listening socket and the doors that share it.
type socket struct {
	d     *Doors
	where place
	local netip.AddrPort
	l     net.Listener   // TCP
	pc    net.PacketConn // UDP
	done  chan struct{}
	tls   serverTLS
	owner *Door // who was given the UDP socket; guarded by Doors.mu

	mu      sync.Mutex
	doors   []*Door            // in the order of opening; replaced, never changed in place
	stalled list.List          // *raw, oldest first: those that have not said what they want
	from    map[netip.Addr]int // connections per peer address
}

func (s *socket) join(o *Door) {
	s.mu.Lock()
	s.doors = append(slices.Clip(s.doors), o)
	s.mu.Unlock()
}

// leave says whether the socket has no door left.
func (s *socket) leave(o *Door) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doors = slices.DeleteFunc(slices.Clone(s.doors), func(x *Door) bool { return x == o })
	return len(s.doors) == 0
}

func (s *socket) opened() []*Door {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doors
}

// close closes the socket and every connection that no door has yet.
func (s *socket) close() {
	close(s.done)
	if s.pc != nil {
		s.pc.Close()
	}
	if s.l == nil {
		return
	}
	s.l.Close()
	s.mu.Lock()
	var late []*raw
	for e := s.stalled.Front(); e != nil; e = e.Next() {
		late = append(late, e.Value.(*raw))
	}
	s.mu.Unlock()
	for _, r := range late {
		r.Close()
	}
}

func (s *socket) accept() {
	defer s.d.work.Done()
	var pause time.Duration
	for {
		c, err := s.l.Accept()
		if err == nil {
			pause = 0
			s.admit(c)
			continue
		}
		select {
		case <-s.done:
			return
		default:
		}
		if errors.Is(err, net.ErrClosed) {
			s.d.log.Error("listening socket closed by itself", "at", s.local, "err", err)
			return
		}
		// Out of descriptors, mostly: those in use must end first.
		if pause == 0 {
			s.d.log.Warn("cannot accept connections", "at", s.local, "err", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		select {
		case <-s.done:
			return
		case <-time.After(pause):
		}
	}
}

// admit counts a new connection and gives it a goroutine that finds its door.
func (s *socket) admit(c net.Conn) {
	r := &raw{ahead: ahead{Conn: c}, s: s, from: addrPort(c.RemoteAddr()).Addr()}
	l := s.d.c.Limits
	s.mu.Lock()
	if s.from == nil {
		s.from = map[netip.Addr]int{}
	}
	if s.from[r.from] >= l.PerAddress && !r.from.IsLoopback() {
		s.mu.Unlock()
		c.Close()
		return
	}
	s.from[r.from]++
	r.stalled = s.stalled.PushBack(r)
	late := s.overdueLocked(r.from)
	s.mu.Unlock()
	if late != nil {
		// The oldest goes, not the newest: someone who speaks at once gets in through any number who do not.
		late.Close()
	}
	s.d.work.Add(1)
	go s.sort(r)
}

// overdueLocked gives the connection that must go when too many say nothing. s.mu is held.
func (s *socket) overdueLocked(from netip.Addr) *raw {
	l := s.d.c.Limits
	if s.stalled.Len() > l.Stalled {
		return s.settleLocked(s.stalled.Front().Value.(*raw))
	}
	if s.stalled.Len() <= l.StalledPerAddress {
		return nil
	}
	var oldest *raw
	n := 0
	for e := s.stalled.Front(); e != nil; e = e.Next() {
		if r := e.Value.(*raw); r.from == from {
			if n++; oldest == nil {
				oldest = r
			}
		}
	}
	if n <= l.StalledPerAddress {
		return nil
	}
	return s.settleLocked(oldest)
}

// settleLocked takes a connection off the list of those that have not said what they want. s.mu is held.
func (s *socket) settleLocked(r *raw) *raw {
	if r.stalled != nil {
		s.stalled.Remove(r.stalled)
		r.stalled = nil
	}
	return r
}

// sort finds out what a connection wants and hands it to the door.
func (s *socket) sort(r *raw) {
	defer s.d.work.Done()
	defer func() {
		if p := recover(); p != nil {
			s.d.log.Error("panic while sorting a connection", "peer", r.from, "err", p, "stack", string(debug.Stack()))
			r.Close()
		}
	}()
	c, door, err := s.identify(r)
	s.mu.Lock()
	s.settleLocked(r)
	s.mu.Unlock()
	if err != nil {
		s.d.log.Debug("connection refused", "at", s.local, "peer", r.from, "err", err)
		r.Close()
		return
	}
	gone := make(chan struct{})
	stop := time.AfterFunc(s.d.c.Limits.FirstOctets, func() { close(gone) })
	defer stop.Stop()
	if !door.hand(c, gone) {
		s.d.log.Warn("connection dropped, nobody fetches it", "door", door.Name, "peer", r.from)
		r.Close()
	}
}

// identify reads as little as tells which door is meant. The connection it gives has no deadline any more.
func (s *socket) identify(r *raw) (*Conn, *Door, error) {
	if err := r.SetDeadline(time.Now().Add(s.d.c.Limits.FirstOctets)); err != nil {
		return nil, nil, err
	}
	doors := s.opened()
	secure, err := s.wantsTLS(r, doors)
	if err != nil {
		return nil, nil, err
	}
	c := &Conn{Conn: r, Local: addrPort(r.LocalAddr()), Remote: addrPort(r.RemoteAddr())}
	r.conn = c
	outward := slices.ContainsFunc(doors, func(o *Door) bool { return o.Side == ports.External })
	doors = slices.DeleteFunc(slices.Clone(doors), func(o *Door) bool { return (o.TLS != ports.None) != secure })
	if secure {
		if doors, err = s.handshake(r, c, doors); err != nil {
			return nil, nil, err
		}
	}
	if doors, err = byOctets(c, doors); err != nil {
		return nil, nil, err
	}
	c.External = outward && c.PeerNames == nil
	door := choose(doors, c)
	if door == nil {
		return nil, nil, errors.New("no door for it")
	}
	c.Door, c.Protocol = door.Name, door.Protocol
	return c, door, c.SetDeadline(time.Time{})
}

// wantsTLS looks at the first octets if the socket's doors leave a choice.
func (s *socket) wantsTLS(r *raw, doors []*Door) (bool, error) {
	none := slices.ContainsFunc(doors, func(o *Door) bool { return o.TLS == ports.None })
	some := slices.ContainsFunc(doors, func(o *Door) bool { return o.TLS != ports.None })
	if none != some {
		return some, nil
	}
	if err := r.need(3); err != nil {
		return false, fmt.Errorf("first octets: %w", err)
	}
	return isHello(r.head), nil
}

// choose takes the first door that may have the connection: one on the peer's side if there is one.
func choose(doors []*Door, c *Conn) *Door {
	var any *Door
	for _, o := range doors {
		if o.TLS == ports.Mutual && c.PeerNames == nil {
			continue
		}
		if (o.Side == ports.External) == c.External {
			return o
		}
		if any == nil {
			any = o
		}
	}
	return any
}

// raw is an accepted connection below TLS. It counts until it is closed.
type raw struct {
	ahead
	s       *socket
	from    netip.Addr
	once    sync.Once
	stalled *list.Element // guarded by s.mu
	wanted  []*Door       // whom the TLS hello left, during the handshake
	conn    *Conn         // what became of it
}

func (r *raw) Close() error {
	r.once.Do(func() {
		r.s.mu.Lock()
		if r.s.from[r.from]--; r.s.from[r.from] <= 0 {
			delete(r.s.from, r.from)
		}
		r.s.mu.Unlock()
	})
	return r.ahead.Close()
}

// SyscallConn lets a reader wait for octets without holding a buffer. While some are read ahead there is nothing to wait
// for, and it is an error; so it is where the network has no descriptors.
func (r *raw) SyscallConn() (syscall.RawConn, error) {
	if len(r.head) > 0 {
		return nil, errNoDescriptor
	}
	return descriptor(r.Conn)
}

var errNoDescriptor = errors.New("octets of this connection do not come from a descriptor")

func descriptor(c net.Conn) (syscall.RawConn, error) {
	if s, ok := c.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errNoDescriptor
}

// ahead is a connection of which the first octets have been looked at.
type ahead struct {
	net.Conn
	head []byte
}

// need reads until n octets are known.
func (a *ahead) need(n int) error {
	for len(a.head) < n {
		b := make([]byte, 256)
		k, err := a.Conn.Read(b)
		a.head = append(a.head, b[:k]...)
		if err != nil && len(a.head) < n {
			return err
		}
	}
	return nil
}

func (a *ahead) Read(b []byte) (int, error) {
	if len(a.head) == 0 {
		return a.Conn.Read(b)
	}
	n := copy(b, a.head)
	if a.head = a.head[n:]; len(a.head) == 0 {
		a.head = nil
	}
	return n, nil
}
