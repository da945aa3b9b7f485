package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"fernamt/core/listen"
	"fernamt/wire/ports"
	"fernamt/wire/sip"
)

// Serve serves SIP for a role at an open door until ctx ends: datagrams, TCP, TLS, or
// WebSockets at / and /sip when the door's protocol is http, https, ws or wss.
func (g *Gate) Serve(ctx context.Context, role string, d *listen.Door) error {
	for _, a := range d.Addresses() {
		g.own(role, d.Name, transportOf(d), a)
	}
	var err error
	switch {
	case d.Transport == ports.UDP:
		err = g.packets(ctx, role, d)
	case d.Family() == ports.HTTP:
		err = g.web(ctx, role, d)
	default:
		err = g.accept(ctx, d)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve %s: %w", d.Name, err)
	}
	return nil
}

// own notes an address of ours. 0.0.0.0 stands for every address of the machine.
// The first door of each transport gives the address by which peers find us when we
// dialled them.
func (g *Gate) own(role, door string, via sip.Transport, a netip.AddrPort) {
	list := []netip.AddrPort{a}
	if a.Addr().IsUnspecified() {
		for _, ip := range machineAddresses() {
			if a.Addr().Is4() == ip.Is4() || a.Addr().Is6() {
				list = append(list, netip.AddrPortFrom(ip, a.Port()))
			}
		}
	}
	g.change(func(s *scene) {
		s.doors[door] = &doorway{role: role}
		if via != 0 && !s.main[via].IsValid() {
			s.main[via] = a
		}
		if via == sip.UDP && s.packets[role] == "" {
			s.packets[role] = door
		}
		for _, a := range list {
			if _, ok := s.own[a]; !ok {
				s.own[a] = role
			}
		}
	})
}

// transportOf is the SIP transport of a door.
func transportOf(d *listen.Door) sip.Transport {
	switch {
	case d.Transport == ports.UDP:
		return sip.UDP
	case d.Family() == ports.HTTP && d.TLS != ports.None:
		return sip.WSS
	case d.Family() == ports.HTTP:
		return sip.WS
	case d.TLS != ports.None:
		return sip.TLS
	}
	return sip.TCP
}

func machineAddresses() (ips []netip.Addr) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	var loop []netip.Addr
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		if ip := p.Addr().Unmap(); ip.IsLoopback() {
			loop = append(loop, ip)
		} else {
			ips = append(ips, ip)
		}
	}
	return append(ips, loop...)
}

// packets serves UDP sockets. Their IDs are small and count from 1 in the order of
// opening, so that a flow token is short and outlives a restart.
func (g *Gate) packets(ctx context.Context, role string, d *listen.Door) error {
	ps := d.Packets()
	errs := make(chan error, len(ps))
	for _, p := range ps {
		var id uint64
		g.change(func(s *scene) { s.nextUDP++; id = s.nextUDP })
		go func() {
			errs <- g.ServePacket(ctx, role, p.PacketConn, sip.LinkInfo{ID: id, Local: p.Local, Door: d.Name, External: p.External})
		}()
	}
	var first error
	for range ps {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	if len(ps) == 0 { // another door of this process has the socket
		<-ctx.Done()
	}
	return first
}

// ServePacket serves one UDP socket for a role. Without an ID in the description one
// is given.
func (g *Gate) ServePacket(ctx context.Context, role string, pc net.PacketConn, in sip.LinkInfo) error {
	if in.ID == 0 {
		g.change(func(s *scene) { s.nextUDP++; in.ID = s.nextUDP })
	}
	g.own(role, in.Door, sip.UDP, in.Local)
	return g.layer.ServePacket(ctx, pc, in)
}

// ServeConn serves one connection for a role until it ends.
func (g *Gate) ServeConn(ctx context.Context, role string, c net.Conn, in sip.LinkInfo) error {
	g.own(role, in.Door, in.Transport, in.Local)
	return g.layer.ServeConn(ctx, c, in)
}

func (g *Gate) accept(ctx context.Context, d *listen.Door) error {
	for {
		c, err := d.Accept(ctx)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				return nil
			}
			return err
		}
		in := sip.LinkInfo{Transport: transportOf(d), Local: c.Local, Door: d.Name, External: c.External, Peer: c.PeerNames}
		go func() {
			if err := g.layer.ServeConn(ctx, c, in); err != nil {
				g.log.Debug("connection ended", "door", in.Door, "from", c.Remote, "err", err)
			}
		}()
	}
}

// WebSocket is the handler for SIP over WebSocket at an http or https door (RFC 7118).
func (g *Gate) WebSocket(role string, d *listen.Door) http.Handler {
	for _, a := range d.Addresses() {
		g.own(role, d.Name, transportOf(d), a)
	}
	in := sip.LinkInfo{Transport: transportOf(d), Door: d.Name, External: d.Side == ports.External}
	return g.layer.WebSocket(in)
}

// web serves nothing but WebSockets; a web role has a server of its own and takes
// WebSocket's handler into it.
func (g *Gate) web(ctx context.Context, role string, d *listen.Door) error {
	mux := http.NewServeMux()
	h := g.WebSocket(role, d)
	mux.Handle("GET /{$}", h)
	mux.Handle("GET /sip", h)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	err := s.Serve(d.Listener())
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// DialThrough names the door that outgoing connections of its transport take.
func (g *Gate) DialThrough(p ports.Port) {
	t := sip.TCP
	if p.TLS != ports.None {
		t = sip.TLS
	}
	g.change(func(s *scene) {
		if s.dials[t] == "" {
			s.dials[t] = p.Name
		}
	})
}

// ways finds and opens ways for the proxy core.
type ways struct{ g *Gate }

// Find implements proxy.Dialer.
func (w ways) Find(role string, hop sip.Hop) (sip.Flow, bool) { return w.g.find(role, hop) }

// Dial implements proxy.Dialer.
func (w ways) Dial(ctx context.Context, hop sip.Hop) (sip.Flow, error) {
	return w.g.layer.Dial(ctx, hop)
}

// find gives an open way for a role. Datagrams leave by the role's own door: its
// address stands in our Via and Record-Route, and there the other side comes back.
func (g *Gate) find(role string, hop sip.Hop) (sip.Flow, bool) {
	if hop.Transport == sip.UDP {
		if door := g.scene.Load().packets[role]; door != "" {
			if f, ok := g.layer.FindAt(door, hop); ok {
				return f, true
			}
		}
	}
	return g.layer.Find(hop)
}

// dial opens a connection for the transport layer. A host of the topology proves its
// name by our own authority, anybody else by a public one (RFC 5922 §7).
func (g *Gate) dial(ctx context.Context, hop sip.Hop) (net.Conn, []string, error) {
	door := g.scene.Load().dials[hop.Transport]
	if door == "" || g.c.Doors == nil {
		return nil, nil, fmt.Errorf("no door to dial %s through", hop.Transport)
	}
	t := listen.DialTLS{ServerName: hop.Host, Public: true}
	if h := g.hostNamed(hop.Host); h != nil {
		t.Public = false
		t.ALPN = []string{"sip/2"}
	}
	c, names, err := g.c.Doors.Dial(ctx, door, hop.Addr, t)
	if err != nil {
		return nil, nil, fmt.Errorf("dial %s: %w", hop.Addr, err)
	}
	return c, names, nil
}

func (g *Gate) hostNamed(name string) *Host {
	for i := range g.c.Hosts {
		if strings.EqualFold(g.c.Hosts[i].Name, name) {
			return &g.c.Hosts[i]
		}
	}
	return nil
}

// address is how our end of a flow is called in Via and Record-Route.
func (g *Gate) address(info *sip.LinkInfo) netip.AddrPort {
	a := info.Local
	if info.Dialled { // the number we called from is nobody's door
		if door := g.scene.Load().main[info.Transport]; door.IsValid() {
			a = door
		}
	}
	if !a.Addr().IsUnspecified() {
		return a
	}
	if h := g.hostNamed(g.c.Name); h != nil && h.Addr.IsValid() && !h.Addr.IsUnspecified() {
		return netip.AddrPortFrom(h.Addr, a.Port())
	}
	if g.here.IsValid() {
		return netip.AddrPortFrom(g.here, a.Port())
	}
	return a
}

// sentBy writes host:port for a Via of ours. Behind TLS between servers stands the
// host's name, which the certificate proves (RFC 5922 §7.3).
func (g *Gate) sentBy(dst []byte, f sip.Flow) []byte {
	info := f.Link.Info()
	if !info.Local.IsValid() || info.Transport == sip.Local {
		return append(dst, g.localName()...)
	}
	return g.address(info).AppendTo(dst)
}

func (g *Gate) localName() string {
	if g.c.Name != "" {
		return g.c.Name
	}
	return "localhost"
}
