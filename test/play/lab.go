package play

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"fernamt/client"
	"fernamt/core/listen"
	"fernamt/wire/sip"
)

// Note is what lab.json says: where a running lab is and who lives there.
type Note struct {
	Domain string `json:"domain"`
	Users  []struct {
		Address  string `json:"address"`
		Password string `json:"password"`
	} `json:"users"`
	CA    string         `json:"ca"`
	Ports map[string]int `json:"ports"`
}

// ReadNote reads a lab.json.
func ReadNote(file string) (*Note, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("lab's note: %w", err)
	}
	n := &Note{}
	if err := json.Unmarshal(b, n); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if n.Domain == "" || len(n.Users) == 0 {
		return nil, fmt.Errorf("%s names no domain or no users", file)
	}
	return n, nil
}

// Stage gives the stage of a lab that runs at addr, reached over net. The lab's certificate
// authority is the only one that its servers are believed by.
func (n *Note) Stage(net listen.Network, addr netip.Addr) (Stage, error) {
	pem, err := os.ReadFile(n.CA)
	if err != nil {
		return Stage{}, fmt.Errorf("lab's authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return Stage{}, fmt.Errorf("%s holds no certificate", n.CA)
	}
	return Stage{Domain: n.Domain, Password: n.password, Network: Over(net, addr, pool, n.Domain),
		Server: func(role string, t sip.Transport) (sip.Hop, error) {
			if role != "" {
				return sip.Hop{}, fmt.Errorf("this stage has no %s of its own", role)
			}
			return n.hop(addr, t)
		}}, nil
}

func (n *Note) password(user string) string {
	for _, u := range n.Users {
		if u.Address == user+"@"+n.Domain {
			return u.Password
		}
	}
	return ""
}

// doors names the kind of port that a transport uses, as in lab.json.
var doors = map[sip.Transport]string{sip.UDP: "sip", sip.TCP: "sip", sip.TLS: "sips", sip.WS: "http", sip.WSS: "https"}

func (n *Note) hop(addr netip.Addr, t sip.Transport) (sip.Hop, error) {
	port, ok := n.Ports[doors[t]]
	if !ok {
		return sip.Hop{}, fmt.Errorf("the lab has no port for %v", t)
	}
	return sip.Hop{Transport: t, Addr: netip.AddrPortFrom(addr, uint16(port)), Host: n.Domain}, nil
}

// Over makes the network of phones that have sockets on net next to addr; roots says whom
// TLS believes, name is what a certificate must say.
func Over(n listen.Network, addr netip.Addr, roots *x509.CertPool, name string) client.Network {
	return client.Network{
		ListenPacket: func(ctx context.Context) (net.PacketConn, error) {
			return n.ListenPacket(ctx, netip.AddrPortFrom(local(addr), 0))
		},
		Dial: func(ctx context.Context, hop sip.Hop) (net.Conn, error) {
			c, err := n.Dial(ctx, netip.Addr{}, hop.Addr)
			if err != nil || hop.Transport != sip.TLS && hop.Transport != sip.WSS {
				return c, err
			}
			conf := &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12}
			if hop.Transport == sip.WSS {
				conf.NextProtos = []string{"http/1.1"}
			}
			t := tls.Client(c, conf)
			if err := t.HandshakeContext(ctx); err != nil {
				return nil, errors.Join(err, c.Close())
			}
			return t, nil
		},
	}
}

// local is an own address from which addr can be reached: on loopback any of it.
func local(addr netip.Addr) netip.Addr {
	switch {
	case addr.IsLoopback() && addr.Is4():
		return netip.MustParseAddr("127.0.0.1")
	case addr.IsLoopback():
		return addr
	case addr.Is4():
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// title gives the name of a play's file without folder and ending.
func title(file string) string {
	file = file[strings.LastIndexByte(file, '/')+1:]
	return strings.TrimSuffix(file, ".txt")
}
