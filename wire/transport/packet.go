package transport

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"fernamt/wire/clock"
	"fernamt/wire/sip"
	"fernamt/wire/turn"
)

// spare is what edits may add to a datagram in its own buffer.
const spare = 4096

// socket is a UDP socket that SIP travels on.
type socket struct {
	l      *Layer
	info   *sip.LinkInfo
	pc     net.PacketConn
	udp    addrPorter // nil: only the plain net.PacketConn methods
	batch  *batch     // nil: one datagram per system call
	v4, v6 bool       // families that it can send to
	gone   atomic.Bool

	// The reader's own.
	msg   sip.Message
	took  uint64 // messages not counted yet
	stun  []byte
	pings [256]struct {
		second int64
		n      int
	}
}

// addrPorter is what *net.UDPConn can and a simulated socket may: addresses as values, without allocation.
type addrPorter interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
}

// ServePacket receives SIP on pc until ctx ends, which gives nil, or pc fails. It closes pc.
func (l *Layer) ServePacket(ctx context.Context, pc net.PacketConn, in sip.LinkInfo) error {
	defer pc.Close()
	in.Transport = sip.UDP
	if !in.Local.IsValid() {
		in.Local = addrPort(pc.LocalAddr())
	}
	s := &socket{l: l, info: l.describe(in), pc: pc}
	s.v4, s.v6 = families(addrPort(pc.LocalAddr()).Addr())
	s.udp, _ = pc.(addrPorter)
	if u, ok := pc.(*net.UDPConn); ok {
		if err := s.openBatch(u); err != nil {
			return fmt.Errorf("socket %v: %w", in.Local, err)
		}
	}
	l.mu.Lock()
	l.sockets = append(append([]*socket{}, l.sockets...), s)
	l.mu.Unlock()
	defer s.forget()
	defer context.AfterFunc(ctx, func() {
		s.gone.Store(true)
		_ = pc.SetReadDeadline(time.Unix(1, 0))
	})()
	read := s.readEach
	if s.batch != nil {
		read = s.readBatches
	}
	if err := read(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("socket %v: %w", in.Local, err)
	}
	return nil
}

func (s *socket) forget() {
	s.gone.Store(true)
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	var left []*socket
	for _, o := range s.l.sockets {
		if o != s {
			left = append(left, o)
		}
	}
	s.l.sockets = left
}

// readEach is the portable reader: one datagram at a time.
func (s *socket) readEach() error {
	buf := make([]byte, s.l.c.Limits.Datagram+1+spare)
	room := s.l.c.Limits.Datagram + 1 // one more, to see that a datagram is too large
	for {
		n, from, err := s.readOne(buf[:room])
		if s.gone.Load() {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// ICMP errors of earlier datagrams come up here; they are not the socket's end.
			if ne := net.Error(nil); errors.As(err, &ne) && !ne.Timeout() {
				time.Sleep(time.Millisecond)
				continue
			}
			return err
		}
		s.datagram(buf[:n], from, n < room, clock.Mono())
		s.counted()
	}
}

func (s *socket) readOne(b []byte) (int, netip.AddrPort, error) {
	if s.udp != nil {
		n, from, err := s.udp.ReadFromUDPAddrPort(b)
		return n, unmap(from), err
	}
	n, from, err := s.pc.ReadFrom(b)
	return n, addrPort(from), err
}

// datagram handles what one peer sent at once. whole is false when the datagram was cut.
func (s *socket) datagram(b []byte, from netip.AddrPort, whole bool, now int64) {
	if s.l.bare != nil {
		s.took++
		s.l.bare(sip.Flow{Link: s, Remote: from}, b)
		return
	}
	if len(b) >= 20 && b[0] < 4 && whole { // RFC 5626 §8: no SIP message begins so
		s.binding(b, from, now)
		return
	}
	for len(b) > 0 && (b[0] == '\r' || b[0] == '\n' || b[0] == 0) {
		b = b[1:]
	}
	if len(b) == 0 { // a keep-alive that wants no answer
		s.l.count.keepalives.Add(1)
		return
	}
	f := sip.Flow{Link: s, Remote: from}
	s.took++
	if !whole {
		s.l.count.tooLarge.Add(1)
		s.l.oversize(&s.msg, f, b[:len(b):len(b)], 513)
		return
	}
	s.l.deliver(&s.msg, f, b, now)
}

// counted enters what was received into the counters, once per batch.
func (s *socket) counted() {
	s.l.count.in[sip.UDP].Add(s.took)
	s.took = 0
}

// binding answers a STUN keep-alive (RFC 5626 §4.4.2), so many a second and no more: the source may be forged.
func (s *socket) binding(b []byte, from netip.AddrPort, now int64) {
	addr := from.Addr().As16()
	p := &s.pings[maphash.Bytes(s.l.seed, addr[:])%uint64(len(s.pings))]
	if second := now / int64(time.Second); p.second != second {
		p.second, p.n = second, 0
	}
	if p.n++; p.n > s.l.c.Limits.Keepalives {
		return
	}
	answer, ok := turn.AppendBinding(s.stun[:0], b, from)
	s.stun = answer
	if ok {
		s.l.count.keepalives.Add(1)
		_ = s.send(from, answer)
	}
}

// Send implements sip.Link. While the reader is inside a batch, the datagram leaves at the batch's end.
func (s *socket) Send(to netip.AddrPort, b []byte) error {
	if s.gone.Load() {
		return ErrClosed
	}
	if t := s.l.trace.Load(); t != nil {
		(*t)(true, sip.Flow{Link: s, Remote: to}, b)
	}
	s.l.count.out[sip.UDP].Add(1)
	return s.send(to, b)
}

// send is Send without counting.
func (s *socket) send(to netip.AddrPort, b []byte) error {
	if s.batch != nil && s.batch.take(to, b) {
		return nil
	}
	err := s.write(to, b)
	if err != nil {
		s.l.count.refused.Add(1)
	}
	return err
}

func (s *socket) write(to netip.AddrPort, b []byte) error {
	to = unmap(to)
	var err error
	if s.udp != nil {
		_, err = s.udp.WriteToUDPAddrPort(b, to)
	} else {
		_, err = s.pc.WriteTo(b, net.UDPAddrFromAddrPort(to))
	}
	return err
}

// Info implements sip.Link.
func (s *socket) Info() *sip.LinkInfo { return s.info }

// socketLocked picks the socket to reach addr by: of the door, of the family, and loopback only to loopback.
func (l *Layer) socketLocked(door string, addr netip.Addr) *socket {
	addr = addr.Unmap()
	var second *socket
	for _, s := range l.sockets {
		if door != "" && s.info.Door != door || addr.Is4() && !s.v4 || !addr.Is4() && !s.v6 {
			continue
		}
		if own := s.info.Local.Addr().Unmap(); own.IsUnspecified() || own.IsLoopback() == addr.IsLoopback() {
			return s
		}
		if second == nil {
			second = s
		}
	}
	return second
}

// families says which families a socket bound to local can send to: one bound to [::] speaks both.
func families(local netip.Addr) (v4, v6 bool) {
	is4 := local.Unmap().Is4()
	return is4 || local.IsUnspecified(), !is4
}

// addrPort reads what a simulated or a real socket calls an address.
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return unmap(a.AddrPort())
	case *net.TCPAddr:
		return unmap(a.AddrPort())
	case nil:
		return netip.AddrPort{}
	}
	p, _ := netip.ParseAddrPort(a.String())
	return unmap(p)
}
