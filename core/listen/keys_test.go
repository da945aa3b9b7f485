package listen

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/ports"
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
func ip(s string) netip.Addr     { return netip.MustParseAddr(s) }

func door(name string, n int, protocol string, change ...func(*ports.Port)) ports.Port {
	p := ports.Port{Name: name, From: n, Transport: ports.TCP, Protocol: protocol, Purpose: "a test", Zweck: "ein Test"}
	for _, f := range change {
		f(&p)
	}
	return p
}

func server(p *ports.Port)   { p.TLS = ports.Server }
func mutual(p *ports.Port)   { p.TLS = ports.Mutual }
func udp(p *ports.Port)      { p.Transport = ports.UDP }
func external(p *ports.Port) { p.Side = ports.External }
func dial(p *ports.Port)     { p.Use = ports.Dial }
func names(n ...string) func(*ports.Port) {
	return func(p *ports.Port) { p.Names = n }
}
func drawTo(to int) func(*ports.Port) {
	return func(p *ports.Port) { p.Use, p.To, p.Transport = ports.Draw, to, ports.UDP }
}

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	is.NoErr(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	is.NoErr(t, err)
	a := &authority{key: key, pool: x509.NewCertPool()}
	a.cert, err = x509.ParseCertificate(der)
	is.NoErr(t, err)
	a.pool.AddCert(a.cert)
	return a
}

// issue makes a certificate; a name that begins with sip: becomes a URI, an address an address.
func (a *authority) issue(t testing.TB, names ...string) *tls.Certificate {
	t.Helper()
	return a.issueUntil(t, time.Now().Add(time.Hour), names...)
}

func (a *authority) issueUntil(t testing.TB, until time.Time, names ...string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	is.NoErr(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "common"},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		if u, err := url.Parse(n); err == nil && u.Scheme != "" && u.Opaque != "" {
			c.URIs = append(c.URIs, u)
		} else if addr := net.ParseIP(n); addr != nil {
			c.IPAddresses = append(c.IPAddresses, addr)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	is.NoErr(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// keys is a Keys whose material can change.
type keys struct {
	mu             sync.Mutex
	server, client *tls.Certificate
	internal       *x509.CertPool
	public         *x509.CertPool
}

func (k *keys) set(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

func (k *keys) Certificate(door, name string) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.server, nil
}

func (k *keys) ClientCertificate(string) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.client, nil
}

func (k *keys) Internal() *x509.CertPool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.internal
}

func (k *keys) Public() *x509.CertPool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.public
}
