package listen

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"fernamt/wire/ports"
)

// Sim is a simulated network: hosts with addresses, UDP and TCP between them, rules that close ports, and a delay. It
// lives in memory, starts no goroutines, and waits on channels and timers only, so that in a testing/synctest bubble its
// time is virtual. It does not model ICMP, fragments or TCP's own losses; a UDP datagram to nobody is gone.
type Sim struct {
	mu      sync.Mutex
	hosts   map[netip.Addr]*SimHost
	rules   []*Rule
	latency time.Duration
	changed chan struct{} // closed and replaced when the rules change
}

// Rule stops what fits it. Zero fields fit everything. Rules are looked at when a connection is opened, at each datagram,
// and at each piece of a living connection, which then waits until the rule is gone.
type Rule struct {
	From, To  netip.Prefix    // the sender's and the receiver's addresses
	Transport ports.Transport // 0: both
	Low, High int             // the receiver's numbers, both ends; of a connection, those of the side that was dialled
	Reject    bool            // refuse a new connection at once; otherwise it hears nothing
}

// NewSim makes an empty network.
func NewSim() *Sim {
	return &Sim{hosts: map[netip.Addr]*SimHost{}, changed: make(chan struct{})}
}

// SimHost is one machine of a Sim. It is a Network; it has loopback addresses of its own besides those given.
type SimHost struct {
	s         *Sim
	addrs     []netip.Addr
	rights    bool
	listeners map[netip.AddrPort]*simListener
	packets   map[netip.AddrPort]*simPacket
	next      uint16
}

// Host adds a machine with these addresses.
func (s *Sim) Host(addrs ...netip.Addr) *SimHost {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &SimHost{
		s: s, addrs: addrs, rights: true, next: 32768,
		listeners: map[netip.AddrPort]*simListener{}, packets: map[netip.AddrPort]*simPacket{},
	}
	for _, a := range addrs {
		s.hosts[a] = h
	}
	return h
}

// Unprivileged takes away the right to open numbers below 1024.
func (h *SimHost) Unprivileged() *SimHost {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	h.rights = false
	return h
}

// SetLatency sets how long everything takes from host to host, one way. It counts for what is sent from now on.
func (s *Sim) SetLatency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = d
}

// Stop puts a rule in force and gives the way to lift it.
func (s *Sim) Stop(r Rule) (lift func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rule := &r
	s.rules = append(s.rules, rule)
	s.changedLocked()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rules = slices.DeleteFunc(s.rules, func(x *Rule) bool { return x == rule })
		s.changedLocked()
	}
}

func (s *Sim) changedLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// stopsLocked finds a rule that stops this; port is the dialled side's number. s.mu is held.
func (s *Sim) stopsLocked(t ports.Transport, from, to netip.Addr, port uint16) *Rule {
	for _, r := range s.rules {
		if (r.Transport == 0 || r.Transport == t) && within(r.From, from) && within(r.To, to) &&
			int(port) >= r.Low && (r.High == 0 && (r.Low == 0 || int(port) == r.Low) || int(port) <= r.High) {
			return r
		}
	}
	return nil
}

func within(p netip.Prefix, a netip.Addr) bool { return !p.IsValid() || p.Contains(a) }

// ownsLocked says whether an address is this host's own.
func (h *SimHost) ownsLocked(a netip.Addr) bool { return a.IsLoopback() || h.s.hosts[a] == h }

// peerLocked finds the host that has the address, seen from h.
func (h *SimHost) peerLocked(a netip.Addr) *SimHost {
	if a.IsLoopback() {
		return h
	}
	return h.s.hosts[a]
}

// sourceLocked chooses the address that h speaks from.
func (h *SimHost) sourceLocked(from, to netip.Addr) (netip.Addr, error) {
	if from.IsValid() && !from.IsUnspecified() {
		if !h.ownsLocked(from) {
			return from, syscall.EADDRNOTAVAIL
		}
		return from, nil
	}
	if to.IsLoopback() {
		return to, nil
	}
	for _, a := range h.addrs {
		if a.Is4() == to.Is4() {
			return a, nil
		}
	}
	return from, syscall.ENETUNREACH
}

// placeLocked checks that something may be bound there and chooses the number for port 0.
func placeLocked[T any](h *SimHost, bound map[netip.AddrPort]T, at netip.AddrPort) (netip.AddrPort, error) {
	switch {
	case !at.Addr().IsUnspecified() && !h.ownsLocked(at.Addr()):
		return at, syscall.EADDRNOTAVAIL
	case at.Addr().IsUnspecified() && !h.hasFamilyLocked(at.Addr().Is4()):
		return at, syscall.EAFNOSUPPORT
	case at.Port() != 0 && at.Port() < lowest && !h.rights:
		return at, syscall.EACCES
	case at.Port() != 0 && takenLocked(bound, at):
		return at, syscall.EADDRINUSE
	case at.Port() != 0:
		return at, nil
	}
	for range 28000 {
		h.next++
		if h.next > 60999 || h.next < 32768 {
			h.next = 32768
		}
		if try := netip.AddrPortFrom(at.Addr(), h.next); !takenLocked(bound, try) {
			return try, nil
		}
	}
	return at, syscall.EADDRINUSE
}

func (h *SimHost) hasFamilyLocked(four bool) bool {
	return len(h.addrs) == 0 || slices.ContainsFunc(h.addrs, func(a netip.Addr) bool { return a.Is4() == four })
}

func takenLocked[T any](bound map[netip.AddrPort]T, at netip.AddrPort) bool {
	for b := range bound {
		if b.Port() == at.Port() && b.Addr().Is4() == at.Addr().Is4() &&
			(b.Addr() == at.Addr() || b.Addr().IsUnspecified() || at.Addr().IsUnspecified()) {
			return true
		}
	}
	return false
}

// boundLocked finds what hears an address: bound to it, or to every address.
func boundLocked[T any](bound map[netip.AddrPort]T, at netip.AddrPort) (x T, ok bool) {
	if x, ok = bound[at]; ok {
		return x, true
	}
	every := netip.IPv4Unspecified()
	if !at.Addr().Is4() {
		every = netip.IPv6Unspecified()
	}
	x, ok = bound[netip.AddrPortFrom(every, at.Port())]
	return x, ok
}

// Listen binds a TCP number of the host.
func (h *SimHost) Listen(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	at, err := placeLocked(h, h.listeners, at)
	if err != nil {
		return nil, opError("listen", "tcp", net.TCPAddrFromAddrPort(at), err)
	}
	l := &simListener{h: h, at: at, conns: make(chan *simConn, 128), done: make(chan struct{})}
	h.listeners[at] = l
	return l, nil
}

// ListenPacket binds a UDP number of the host.
func (h *SimHost) ListenPacket(ctx context.Context, at netip.AddrPort) (net.PacketConn, error) {
	return h.packet(at, netip.AddrPort{})
}

// DialPacket binds any UDP number and speaks to one peer.
func (h *SimHost) DialPacket(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	h.s.mu.Lock()
	src, err := h.sourceLocked(from, to.Addr())
	h.s.mu.Unlock()
	if err != nil {
		return nil, opError("dial", "udp", net.UDPAddrFromAddrPort(to), err)
	}
	pc, err := h.packet(netip.AddrPortFrom(src, 0), to)
	if err != nil {
		return nil, err
	}
	return simPeer{pc}, nil
}

func (h *SimHost) packet(at, peer netip.AddrPort) (*simPacket, error) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	at, err := placeLocked(h, h.packets, at)
	if err != nil {
		return nil, opError("listen", "udp", net.UDPAddrFromAddrPort(at), err)
	}
	pc := &simPacket{h: h, at: at, peer: peer, in: newQueue()}
	h.packets[at] = pc
	return pc, nil
}

// Dial connects: a refusal takes the way there and back, silence takes as long as ctx allows, two minutes at most.
func (h *SimHost) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	target := net.TCPAddrFromAddrPort(to)
	s := h.s
	s.mu.Lock()
	trip := 2 * s.latency
	src, err := h.sourceLocked(from, to.Addr())
	if err != nil {
		s.mu.Unlock()
		return nil, opError("dial", "tcp", target, err)
	}
	peer := h.peerLocked(to.Addr())
	rule := s.stopsLocked(ports.TCP, src, to.Addr(), to.Port())
	if rule == nil && s.stopsLocked(ports.TCP, to.Addr(), src, to.Port()) != nil {
		rule = &Rule{} // the answer gets lost
	}
	if peer == nil {
		err = syscall.EHOSTUNREACH
	} else if _, ok := boundLocked(peer.listeners, to); !ok {
		err = syscall.ECONNREFUSED
	}
	s.mu.Unlock()
	if rule != nil && !rule.Reject {
		trip = time.Hour // nobody answers
	} else if rule != nil {
		err = syscall.ECONNREFUSED
	}
	if late := sleep(ctx, trip); late != nil {
		return nil, opError("dial", "tcp", target, os.ErrDeadlineExceeded)
	}
	if err != nil {
		return nil, opError("dial", "tcp", target, err)
	}
	return h.connect(ctx, peer, src, to)
}

// connect makes the pair of ends and puts one into the listener's queue.
func (h *SimHost) connect(ctx context.Context, peer *SimHost, src netip.Addr, to netip.AddrPort) (net.Conn, error) {
	target := net.TCPAddrFromAddrPort(to)
	h.s.mu.Lock()
	l, ok := boundLocked(peer.listeners, to)
	h.next++
	if h.next > 60999 || h.next < 32768 {
		h.next = 32768
	}
	mine := netip.AddrPortFrom(src, h.next)
	h.s.mu.Unlock()
	if !ok {
		return nil, opError("dial", "tcp", target, syscall.ECONNREFUSED)
	}
	there, back := newQueue(), newQueue()
	near := &simConn{s: h.s, out: there, in: back, local: mine, remote: to, dialled: to.Port()}
	far := &simConn{s: h.s, out: back, in: there, local: to, remote: mine, dialled: to.Port()}
	select {
	case l.conns <- far:
		select {
		case <-l.done: // closed at that moment: nobody will fetch it
			far.Close()
			return nil, opError("dial", "tcp", target, syscall.ECONNREFUSED)
		default:
			return near, nil
		}
	case <-l.done:
		return nil, opError("dial", "tcp", target, syscall.ECONNREFUSED)
	case <-ctx.Done():
		return nil, opError("dial", "tcp", target, os.ErrDeadlineExceeded)
	}
}

// Holder tells that the number is taken within the simulation.
func (h *SimHost) Holder(t ports.Transport, at netip.AddrPort) (Process, error) {
	return Process{PID: 1, Name: fmt.Sprintf("simulated host %v", h.addrs)}, nil
}

func opError(op, network string, at net.Addr, err error) error {
	return &net.OpError{Op: op, Net: network, Addr: at, Err: err}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
