package transport

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// issue makes a certificate that is its own authority.
func issue(t testing.TB, names ...string) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	is.NoErr(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	is.NoErr(t, err)
	leaf, err := x509.ParseCertificate(der)
	is.NoErr(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

func TestTLS(t *testing.T) {
	cert, pool := issue(t, "pool.test", "other.test")
	r := newRig(t, Config{})
	r.on(ok)
	addr := r.tcp(func(c net.Conn) net.Conn {
		return tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool,
			ClientAuth: tls.VerifyClientCertIfGiven})
	})
	for _, mutual := range []bool{false, true} {
		config := &tls.Config{RootCAs: pool, ServerName: "pool.test"}
		if mutual {
			config.Certificates = []tls.Certificate{cert}
		}
		c := tls.Client(dial(t, addr), config)
		in := bufio.NewReader(c)
		for i := range 100 {
			fmt.Fprint(c, "\r\n\r\n", options("TLS", fmt.Sprint(i), "", strings.Repeat("x", 300*i)))
			b, _ := in.Peek(4)
			is.Equal(t, string(b[:2]), "\r\n", "pong")
			in.Discard(2)
			got, err := readResponse(in)
			is.NoErr(t, err)
			is.True(t, strings.Contains(got, fmt.Sprintf("Call-ID: %d\r\n", i)), got)
			r.next()
		}
		info := r.flow().Link.Info()
		is.Equal(t, info.Transport, sip.TLS)
		want := []string(nil)
		if mutual {
			want = []string{"pool.test", "other.test"}
		}
		is.Equal(t, info.Peer, want)
		c.Close()
		is.Equal(t, <-r.gone, info.ID)
	}
}

func TestHandshakeDeadline(t *testing.T) {
	cert, _ := issue(t, "pool.test")
	r := newRig(t, Config{Limits: Limits{Handshake: 100 * time.Millisecond}})
	addr := r.tcp(func(c net.Conn) net.Conn {
		return tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
	})
	c := dial(t, addr)
	begin := time.Now()
	c.Write([]byte("\x16\x03\x01"))
	is.Equal(t, rest(c), "")
	is.True(t, time.Since(begin) < 2*time.Second, "cut off")
	is.True(t, until(func() bool {
		r.Layer.mu.RLock()
		defer r.Layer.mu.RUnlock()
		return r.opened == 0 && len(r.from) == 0
	}), "and not counted any more")
}

func TestPeerNames(t *testing.T) {
	c := &x509.Certificate{DNSNames: []string{"a.test"}}
	is.Equal(t, PeerNames(c), []string{"a.test"})
	for _, s := range []string{"sip:b.test", "sip:someone@c.test", "https://d.test/"} {
		u, err := url.Parse(s)
		is.NoErr(t, err)
		c.URIs = append(c.URIs, u)
	}
	is.Equal(t, PeerNames(c), []string{"b.test"}, "RFC 5922 §7.1")
}

// pair is two layers, the first of which dials the second.
func pair(t *testing.T, delay time.Duration) (a, b *rig, addr netip.AddrPort, dials *atomic.Int32) {
	b = newRig(t, Config{})
	addr = netip.MustParseAddrPort(b.tcp(nil))
	dials = new(atomic.Int32)
	a = newRig(t, Config{Dial: func(ctx context.Context, hop sip.Hop) (net.Conn, []string, error) {
		dials.Add(1)
		time.Sleep(delay)
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", hop.Addr.String())
		return c, []string{hop.Host, "alias." + hop.Host}, err
	}})
	return a, b, addr, dials
}

func TestDial(t *testing.T) {
	a, b, addr, dials := pair(t, 50*time.Millisecond)
	hop := sip.Hop{Transport: sip.TCP, Addr: addr, Host: "b.test"}
	_, found := a.Find(hop)
	is.True(t, !found, "nothing yet")
	var wg sync.WaitGroup
	flows := make([]sip.Flow, 20)
	for i := range flows {
		wg.Go(func() {
			f, err := a.Dial(t.Context(), hop)
			is.NoErr(t, err)
			flows[i] = f
			is.NoErr(t, f.Send([]byte(options("TCP", "x", "", ""))))
		})
	}
	wg.Wait()
	is.Equal(t, dials.Load(), int32(1), "one connection for all")
	for range flows {
		b.next()
	}
	f, found := a.Find(hop)
	is.True(t, found && f == flows[0], "found")
	info := f.Link.Info()
	is.True(t, info.Dialled && info.Door == "" && info.Peer[0] == "b.test", "described")
	// The other side answers, and finds the way back by address and port.
	b.on(ok)
	is.NoErr(t, f.Send([]byte(options("TCP", "back", "", ""))))
	b.next()
	g, found := b.Find(sip.Hop{Transport: sip.TCP, Addr: b.flow().Remote, Host: "whoever"})
	is.True(t, found && g == b.flow(), "the way back")
	is.NoErr(t, g.Send([]byte(options("TCP", "hello", "", ""))))
	for a.next() != "hello" {
	}
	a.Close()
	<-b.gone
	_, found = a.Find(hop)
	is.True(t, until(func() bool { _, found = a.Find(hop); return !found }), "not found any more")
	_, err := a.Dial(t.Context(), hop)
	is.True(t, err != nil, "a closed layer dials no more")
}

func TestDialFails(t *testing.T) {
	a, _, addr, dials := pair(t, 0)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(t, err)
	closed := netip.MustParseAddrPort(ln.Addr().String())
	ln.Close()
	_, err = a.Dial(t.Context(), sip.Hop{Transport: sip.TCP, Addr: closed})
	is.Err(t, err, "dial TCP "+closed.String())
	is.Equal(t, a.Stats().DialFailed, uint64(1))
	slow := newRig(t, Config{Limits: Limits{Dial: 50 * time.Millisecond},
		Dial: func(ctx context.Context, _ sip.Hop) (net.Conn, []string, error) {
			<-ctx.Done()
			return nil, nil, ctx.Err()
		}})
	_, err = slow.Dial(t.Context(), sip.Hop{Transport: sip.TCP, Addr: addr})
	is.True(t, errors.Is(err, context.DeadlineExceeded), "limit of the layer")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = a.Dial(ctx, sip.Hop{Transport: sip.TLS, Addr: addr, Host: "x"})
	is.True(t, errors.Is(err, context.Canceled), "limit of the caller")
	_ = dials
}

// RFC 5923, RFC 5922 §4: whom a secure connection may be reused for.
func TestReuse(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.1:5061")
	for _, c := range []struct {
		name string
		conn *conn
		hop  sip.Hop
		want bool
	}{
		{"dialled name", &conn{host: "b.test", info: &sip.LinkInfo{Dialled: true}}, sip.Hop{Transport: sip.TLS, Addr: at, Host: "b.test"}, true},
		{"proven name", &conn{host: "b.test", info: &sip.LinkInfo{Dialled: true, Peer: []string{"b.test", "c.test"}}}, sip.Hop{Transport: sip.TLS, Addr: at, Host: "c.test"}, true},
		{"another name", &conn{host: "b.test", remote: at, info: &sip.LinkInfo{Dialled: true, Peer: []string{"b.test"}}}, sip.Hop{Transport: sip.TLS, Addr: at, Host: "evil.test"}, false},
		{"no name asked", &conn{host: "b.test", info: &sip.LinkInfo{Dialled: true}}, sip.Hop{Transport: sip.TLS, Addr: at}, true},
		{"plain", &conn{host: "b.test", info: &sip.LinkInfo{Dialled: true}}, sip.Hop{Transport: sip.TCP, Addr: at, Host: "c.test"}, true},
		{"came from there", &conn{remote: at, info: &sip.LinkInfo{}}, sip.Hop{Transport: sip.TLS, Addr: at, Host: "192.0.2.1"}, true},
	} {
		is.Equal(t, c.conn.serves(c.hop), c.want, c.name)
	}
}

// A server that dials us asks with alias that we use its connection for its own address (RFC 5923 §8.2).
func TestAlias(t *testing.T) {
	r := newRig(t, Config{})
	r.on(func(m *sip.Message) { // as one who forwards it
		m.Prepend(sip.HVia, []byte("SIP/2.0/TLS a.test;branch=z9hG4bKx"))
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(t, err)
	defer ln.Close()
	for _, c := range []struct {
		peer []string
		via  string
		want bool
	}{
		{[]string{"b.test"}, "b.test:5071;alias", true},
		{[]string{"b.test"}, "b.test:5072", false},
		{nil, "b.test:5073;alias", false},
		{[]string{"b.test"}, "c.test:5074;alias", false},
	} {
		k := dial(t, ln.Addr().String())
		s, err := ln.Accept()
		is.NoErr(t, err)
		r.wg.Go(func() { r.ServeConn(t.Context(), s, sip.LinkInfo{Transport: sip.TLS, Peer: c.peer}) })
		fmt.Fprint(k, strings.Replace(options("TLS", "x", "", ""), "127.0.0.1:9;", c.via+";", 1))
		r.next()
		host, port, _ := strings.Cut(strings.TrimSuffix(c.via, ";alias"), ":")
		hop := sip.Hop{Transport: sip.TLS, Addr: netip.MustParseAddrPort("127.0.0.1:" + port), Host: host}
		time.Sleep(5 * time.Millisecond)
		_, found := r.Find(hop)
		is.Equal(t, found, c.want, c.via)
		k.Close()
		<-r.gone
		_, found = r.Find(hop)
		is.True(t, !found, "gone with its connection")
	}
}
