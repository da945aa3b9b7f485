package listen

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"fernamt/wire/ports"
)

// DialTLS says what a dialled peer has to prove. Whether there is TLS at all is the door's matter.
type DialTLS struct {
	ServerName string   // the name that led to the peer: sent to it, and its certificate must carry it
	ALPN       []string // protocols to offer, best first
	Public     bool     // trust the public authorities; otherwise ours alone
}

// Dial connects by TCP through a declared door, with TLS if the door has it. The names are those of the peer's verified
// certificate, nil without TLS.
func (d *Doors) Dial(ctx context.Context, name string, to netip.AddrPort, t DialTLS) (net.Conn, []string, error) {
	p, err := d.dialDoor(name, ports.TCP)
	if err != nil {
		return nil, nil, err
	}
	c, err := d.c.Network.Dial(ctx, d.source(p, to.Addr()), to)
	if err != nil {
		return nil, nil, fmt.Errorf("dial through %s: %w", name, err)
	}
	o := d.track(c, p, to)
	if p.TLS == ports.None {
		return o, nil, nil
	}
	secure, names, err := d.secure(ctx, o, p, t)
	if err != nil {
		o.Close()
		return nil, nil, fmt.Errorf("dial through %s: %s: %w", name, to, err)
	}
	return secure, names, nil
}

// secure does the client's side of TLS.
func (d *Doors) secure(ctx context.Context, c net.Conn, p ports.Port, t DialTLS) (net.Conn, []string, error) {
	switch {
	case d.c.Keys == nil:
		return nil, nil, errors.New("no certificates to check the peer with")
	case t.ServerName == "":
		return nil, nil, errors.New("no name that the peer must prove")
	}
	roots := d.c.Keys.Internal()
	if t.Public {
		roots = d.c.Keys.Public()
	}
	if roots == nil && !t.Public {
		return nil, nil, errors.New("no authority to check the peer with")
	}
	var names []string
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.ServerName,
		NextProtos:         t.ALPN,
		InsecureSkipVerify: true, // the standard check knows no SIP names; VerifyConnection does it all
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("the peer shows no certificate")
			}
			if err := verify(s.PeerCertificates, roots, x509.ExtKeyUsageServerAuth); err != nil {
				return err
			}
			names = Names(s.PeerCertificates[0])
			return proves(s.PeerCertificates[0], t.ServerName, p.Family() == ports.SIP)
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			own, err := d.c.Keys.ClientCertificate(p.Name)
			if own == nil && err == nil {
				own = &tls.Certificate{}
			}
			return own, err
		},
	}
	ctx, cancel := context.WithTimeout(ctx, d.c.Limits.Handshake)
	defer cancel()
	conn := tls.Client(c, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, nil, fmt.Errorf("tls: %w", err)
	}
	return conn, names, nil
}

// DialPacket opens a UDP socket to one peer through a declared door.
func (d *Doors) DialPacket(ctx context.Context, name string, to netip.AddrPort) (net.Conn, error) {
	p, err := d.dialDoor(name, ports.UDP)
	if err != nil {
		return nil, err
	}
	c, err := d.c.Network.DialPacket(ctx, d.source(p, to.Addr()), to)
	if err != nil {
		return nil, fmt.Errorf("dial through %s: %w", name, err)
	}
	return d.track(c, p, to), nil
}

// DialFunc is a dialler as libraries take it (PostgreSQL, DNS). It knows "tcp", "udp" and "unix"; TLS is left to the
// library. Addresses are numeric, or localhost: names are for Resolver. The door's transport must fit; a door is either,
// so a library that needs both is given the names of both.
func (d *Doors) DialFunc(names ...string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == "unix" {
			return DialUnix(ctx, address)
		}
		to, err := numeric(address)
		if err != nil {
			return nil, fmt.Errorf("dial through %v: %w", names, err)
		}
		want := ports.TCP
		if len(network) >= 3 && network[:3] == "udp" {
			want = ports.UDP
		}
		for _, name := range names {
			p, err := d.dialDoor(name, want)
			if err != nil {
				continue
			}
			if want == ports.UDP {
				return d.DialPacket(ctx, name, to)
			}
			c, err := d.c.Network.Dial(ctx, d.source(p, to.Addr()), to)
			if err != nil {
				return nil, fmt.Errorf("dial through %s: %w", name, err)
			}
			return d.track(c, p, to), nil
		}
		return nil, fmt.Errorf("dial %s %s: no %s door among %v was declared to dial", network, address, want, names)
	}
}

// Resolver asks the machine's name servers through declared doors (one UDP, one TCP).
func (d *Doors) Resolver(names ...string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: d.DialFunc(names...)}
}

func numeric(address string) (netip.AddrPort, error) {
	if to, err := netip.ParseAddrPort(address); err == nil {
		return to, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err == nil && host == "localhost" {
		return netip.ParseAddrPort("127.0.0.1:" + port)
	}
	return netip.AddrPort{}, fmt.Errorf("%q is not a numeric address with a port", address)
}

// dialDoor finds a door that was declared to dial, over that transport.
func (d *Doors) dialDoor(name string, t ports.Transport) (ports.Port, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, err := d.findLocked(name, ports.Dial)
	if err != nil {
		return ports.Port{}, fmt.Errorf("dial: %w", err)
	}
	if p.Transport != t {
		return ports.Port{}, fmt.Errorf("dial: door %s is not for %s", p.Port, t)
	}
	return p.Port, nil
}

// source is the address that the settings give a door to dial from, of the peer's family; zero: any.
func (d *Doors) source(p ports.Port, to netip.Addr) netip.Addr {
	for _, a := range d.c.At[p.Name] {
		if a.Is4() == to.Unmap().Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// outbound is a dialled connection; it is listed until it is closed.
type outbound struct {
	net.Conn
	d    *Doors
	door ports.Port
	to   netip.AddrPort
	once sync.Once
}

func (d *Doors) track(c net.Conn, p ports.Port, to netip.AddrPort) *outbound {
	o := &outbound{Conn: c, d: d, door: p, to: to}
	d.mu.Lock()
	d.dialled[o] = struct{}{}
	d.mu.Unlock()
	return o
}

func (o *outbound) Close() error {
	o.once.Do(func() {
		o.d.mu.Lock()
		delete(o.d.dialled, o)
		o.d.mu.Unlock()
	})
	return o.Conn.Close()
}

// SyscallConn is the descriptor below, if the network has such.
func (o *outbound) SyscallConn() (syscall.RawConn, error) { return descriptor(o.Conn) }
