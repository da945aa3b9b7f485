package listen

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/ports"
)

func TestNames(t *testing.T) {
	uri := func(s ...string) (us []*url.URL) {
		for _, x := range s {
			u, err := url.Parse(x)
			is.NoErr(t, err)
			us = append(us, u)
		}
		return us
	}
	for _, c := range []struct {
		name string
		cert x509.Certificate
		want []string
	}{
		{"sip URI", x509.Certificate{URIs: uri("sip:Example.test"), DNSNames: []string{"host.example.test"}}, []string{"example.test"}},
		{"several", x509.Certificate{URIs: uri("sip:a.test", "sip:b.test;x=y")}, []string{"a.test", "b.test"}},
		{"a person's is none", x509.Certificate{URIs: uri("sip:alice@a.test"), DNSNames: []string{"A.test"}}, []string{"a.test"}},
		{"another scheme is none", x509.Certificate{URIs: uri("sips:a.test", "https://b.test/")}, nil},
		{"DNS", x509.Certificate{DNSNames: []string{"a.test", "b.test"}}, []string{"a.test", "b.test"}},
	} {
		is.Equal(t, Names(&c.cert), c.want, c.name)
	}
}

func TestProves(t *testing.T) {
	for _, c := range []struct {
		cert x509.Certificate
		name string
		sip  bool
		want bool
	}{
		{x509.Certificate{DNSNames: []string{"sip.example.test"}}, "SIP.example.test.", true, true},
		{x509.Certificate{DNSNames: []string{"*.example.test"}}, "sip.example.test", true, false}, // no wildcards in SIP
		{x509.Certificate{DNSNames: []string{"*.example.test"}}, "sip.example.test", false, true},
		{x509.Certificate{DNSNames: []string{"example.test"}}, "sip.example.test", true, false},
		{x509.Certificate{IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}}, "10.0.0.1", true, true},
		{x509.Certificate{DNSNames: []string{"x"}}, "10.0.0.1", true, false},
	} {
		err := proves(&c.cert, c.name, c.sip)
		is.Equal(t, err == nil, c.want, append([]string{c.name}, c.cert.DNSNames...)...)
	}
}

// pair is a server with doors and a second host that dials it by our own dialler.
func pair(t *testing.T, h *house, own *tls.Certificate, roots *x509.CertPool, ps ...ports.Port) (map[string]*Door, *Doors) {
	t.Helper()
	_, open := h.open(t, Config{}, ps...)
	out := New(Config{Network: h.client, Keys: &keys{client: own, internal: roots}})
	t.Cleanup(func() { out.Close() })
	is.NoErr(t, out.Declare("c", []ports.Port{
		door("c/sips", 5061, "sips", dial, mutual), door("c/https", 443, "https", dial, server), door("c/sip", 5060, "sip", dial),
	}))
	return open, out
}

func TestMutualNames(t *testing.T) {
	h := newHouse(t)
	other := newAuthority(t, "outside")
	for _, c := range []struct {
		name     string
		cert     *tls.Certificate
		door     string
		names    []string
		external bool
	}{
		{"a server of ours", h.ca.issue(t, "sip:pool.example.test", "fe1.example.test"), "f/sips", []string{"pool.example.test"}, false},
		{"a server of ours, DNS", h.ca.issue(t, "fe1.example.test"), "f/sips", []string{"fe1.example.test"}, false},
		{"nobody", nil, "e/sips", nil, true},
		{"another's certificate", other.issue(t, "fe1.example.test"), "e/sips", nil, true},
		{"expired", h.ca.issueUntil(t, time.Now().Add(-time.Minute), "fe1.example.test"), "e/sips", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			same := Config{Addresses: map[ports.Side][]netip.Addr{ports.Internal: {ip("10.0.0.1")}, ports.External: {ip("10.0.0.1")}}}
			h.server = h.sim.Host(ip("10.0.0.1"))
			_, open := h.open(t, same, door("e/sips", 5061, "sips", server, external), door("f/sips", 5061, "sips", server))
			out := New(Config{Network: h.client, Keys: &keys{client: c.cert, internal: h.ca.pool}})
			is.NoErr(t, out.Declare("c", []ports.Port{door("c/sips", 5061, "sips", dial, server)}))
			conn, names, err := out.Dial(context.Background(), "c/sips", at("10.0.0.1:5061"), DialTLS{ServerName: "sip.example.test"})
			is.NoErr(t, err)
			defer conn.Close()
			is.Equal(t, names, []string{"sip.example.test", "example.test"})
			got := accept(t, open[c.door])
			is.Equal(t, got.PeerNames, c.names)
			is.Equal(t, got.External, c.external)
		})
	}
}

func TestMutualDoor(t *testing.T) {
	h := newHouse(t)
	other := newAuthority(t, "outside")
	for _, c := range []struct {
		name string
		cert *tls.Certificate
		ok   bool
	}{
		{"ours", h.ca.issue(t, "fe1.example.test"), true},
		{"none", nil, false},
		{"another's", other.issue(t, "fe1.example.test"), false},
		{"expired", h.ca.issueUntil(t, time.Now().Add(-time.Minute), "fe1.example.test"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.server = h.sim.Host(ip("10.0.0.1"))
			open, out := pair(t, h, c.cert, h.ca.pool, door("i/sips", 5061, "sips", mutual))
			conn, _, err := out.Dial(context.Background(), "c/sips", at("10.0.0.1:5061"), DialTLS{ServerName: "example.test"})
			if c.ok {
				is.NoErr(t, err)
				is.Equal(t, accept(t, open["i/sips"]).PeerNames, []string{"fe1.example.test"})
				return
			}
			if err == nil { // TLS 1.3 tells a client only when it reads
				conn.SetReadDeadline(time.Now().Add(5 * time.Second))
				_, err = conn.Read(make([]byte, 1))
			}
			is.Err(t, err, "certificate")
		})
	}
}

func TestDialChecks(t *testing.T) {
	h := newHouse(t)
	other := newAuthority(t, "outside")
	old := h.ca.issueUntil(t, time.Now().Add(-time.Minute), "sip.example.test")
	for _, c := range []struct {
		name, door, to string
		cert           *tls.Certificate
		roots          *x509.CertPool
		t              DialTLS
		want           string
	}{
		{"as it should be", "c/sips", "10.0.0.1:5061", h.keys.server, h.ca.pool, DialTLS{ServerName: "example.test"}, ""},
		{"IPv6", "c/sips", "[fd00::1]:5061", h.keys.server, h.ca.pool, DialTLS{ServerName: "example.test"}, ""},
		{"address proved", "c/sips", "10.0.0.1:5061", h.keys.server, h.ca.pool, DialTLS{ServerName: "10.0.0.1"}, ""},
		{"wrong name", "c/sips", "10.0.0.1:5061", h.keys.server, h.ca.pool, DialTLS{ServerName: "other.test"},
			"the certificate is for sip.example.test, example.test, not for other.test"},
		{"another authority", "c/sips", "10.0.0.1:5061", h.keys.server, other.pool, DialTLS{ServerName: "example.test"}, "unknown authority"},
		{"expired", "c/sips", "10.0.0.1:5061", old, h.ca.pool, DialTLS{ServerName: "sip.example.test"}, "expired"},
		{"no name given", "c/sips", "10.0.0.1:5061", h.keys.server, h.ca.pool, DialTLS{}, "no name that the peer must prove"},
		{"closed", "c/sips", "10.0.0.1:5062", h.keys.server, h.ca.pool, DialTLS{ServerName: "example.test"}, "refused"},
		{"web name", "c/https", "10.0.0.1:5061", h.keys.server, h.ca.pool, DialTLS{ServerName: "other.test"}, "not other.test"},
		{"public authorities", "c/sips", "10.0.0.1:5061", h.keys.server, h.ca.pool, DialTLS{ServerName: "example.test", Public: true}, "unknown authority"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.server = h.sim.Host(ip("10.0.0.1"), ip("fd00::1"))
			h.keys = &keys{server: c.cert, internal: h.ca.pool}
			open, out := pair(t, h, nil, c.roots, door("f/sips", 5061, "sips", server))
			out.c.Keys.(*keys).public = x509.NewCertPool()
			conn, _, err := out.Dial(context.Background(), c.door, at(c.to), c.t)
			if c.want != "" {
				is.Err(t, err, c.want)
				is.Equal(t, len(out.Live()), 0, "nothing stays open")
				return
			}
			is.NoErr(t, err)
			accept(t, open["f/sips"])
			is.Equal(t, len(out.Live()), 1)
			conn.Close()
			is.Equal(t, len(out.Live()), 0)
		})
	}
}

func TestRotation(t *testing.T) {
	h := newHouse(t)
	open, out := pair(t, h, h.ca.issue(t, "fe1.example.test"), h.ca.pool, door("f/sips", 5061, "sips", server))
	dialled := func() (net.Conn, *Conn) {
		conn, _, err := out.Dial(context.Background(), "c/sips", at("10.0.0.1:5061"), DialTLS{ServerName: "example.test"})
		is.NoErr(t, err)
		return conn, accept(t, open["f/sips"])
	}
	oldHere, oldThere := dialled()
	serial := oldHere.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber
	is.Equal(t, oldThere.PeerNames, []string{"fe1.example.test"})

	// A new certificate of a new authority, on both sides.
	next := newAuthority(t, "next")
	h.keys.set(func() { h.keys.server, h.keys.internal = next.issue(t, "example.test"), next.pool })
	_, _, err := out.Dial(context.Background(), "c/sips", at("10.0.0.1:5061"), DialTLS{ServerName: "example.test"})
	is.Err(t, err, "unknown authority")
	mine := out.c.Keys.(*keys)
	mine.set(func() { mine.internal = next.pool })
	newHere, newThere := dialled()
	is.True(t, newHere.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Cmp(serial) != 0, "the new certificate is shown")
	is.True(t, newThere.PeerNames == nil, "our old certificate proves nothing any more")
	mine.set(func() { mine.client = next.issue(t, "fe1.example.test") })
	_, third := dialled()
	is.Equal(t, third.PeerNames, []string{"fe1.example.test"})

	// The first connection lives on.
	go oldHere.Write([]byte("still here"))
	b := make([]byte, 10)
	oldThere.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := oldThere.Read(b)
	is.NoErr(t, err)
	is.Equal(t, string(b[:n]), "still here")
}

func TestResumedSessionIsCheckedAnew(t *testing.T) {
	h := newHouse(t)
	_, open := h.open(t, Config{}, door("f/sips", 5061, "sips", server))
	cache := tls.NewLRUClientSessionCache(4)
	config := &tls.Config{
		ServerName: "example.test", RootCAs: h.ca.pool, ClientSessionCache: cache,
		Certificates: []tls.Certificate{*h.ca.issue(t, "fe1.example.test")},
	}
	visit := func() (*Conn, bool) {
		conn := tls.Client(h.dial(t, "10.0.0.1:5061"), config)
		is.NoErr(t, conn.Handshake())
		got := accept(t, open["f/sips"])
		go got.Write([]byte("x")) // the ticket comes with it
		_, err := conn.Read(make([]byte, 1))
		is.NoErr(t, err)
		return got, conn.ConnectionState().DidResume
	}
	got, resumed := visit()
	is.True(t, !resumed && got.PeerNames != nil, "first visit")
	got, resumed = visit()
	is.True(t, resumed && got.PeerNames != nil, "second visit resumes")
	h.keys.set(func() { h.keys.internal = newAuthority(t, "next").pool })
	got, _ = visit()
	is.True(t, got.PeerNames == nil, "the authority has changed")
}

func TestTLSNeedsKeys(t *testing.T) {
	d := New(Config{Network: NewSim().Host(ip("10.0.0.1"))})
	is.NoErr(t, d.Declare("a", []ports.Port{door("a/sips", 5061, "sips", server)}))
	_, err := d.Open("a/sips")
	is.Err(t, err, "it needs a certificate and there is none")
}

func TestOldTLS(t *testing.T) {
	h := newHouse(t)
	h.open(t, Config{}, door("f/sips", 5061, "sips", server))
	conn := tls.Client(h.dial(t, "10.0.0.1:5061"), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	err := conn.Handshake()
	is.Err(t, err, "remote error: tls: protocol version not supported")
}
