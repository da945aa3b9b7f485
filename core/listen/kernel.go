package listen

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// kernel is the network of this machine.
type kernel struct{}

// Kernel is the network of this machine.
func Kernel() Network { return kernel{} }

func (kernel) Listen(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	// Family by name, so that [::] leaves the IPv4 number to its own socket.
	c := net.ListenConfig{KeepAlive: 2 * time.Minute}
	return c.Listen(ctx, family("tcp", at.Addr()), at.String())
}

func (kernel) ListenPacket(ctx context.Context, at netip.AddrPort) (net.PacketConn, error) {
	c := net.ListenConfig{}
	return c.ListenPacket(ctx, family("udp", at.Addr()), at.String())
}

func (kernel) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAlive: 2 * time.Minute}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return d.DialContext(ctx, family("tcp", to.Addr()), to.String())
}

func (kernel) DialPacket(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{}
	if from.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return d.DialContext(ctx, family("udp", to.Addr()), to.String())
}

func family(network string, a netip.Addr) string {
	if a.Unmap().Is4() {
		return network + "4"
	}
	return network + "6"
}
