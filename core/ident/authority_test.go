package ident

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fernamt/test/is"
)

func authority(t *testing.T) (*Authority, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	a, err := NewAuthority(dir, "Fernamt example.test")
	is.NoErr(t, err)
	return a, dir
}

var fe1 = Host{Name: "fe1.example.test", Names: []string{"pool1.example.test"}, Addresses: []net.IP{net.IPv4(127, 0, 1, 1)},
	Domains: []string{"Example.test"}}

func TestAuthority(t *testing.T) {
	a, dir := authority(t)
	made, err := a.Issue(fe1)
	is.NoErr(t, err)
	is.True(t, made)
	for _, name := range []string{"ca.key", "fe1.example.test.key"} {
		st, err := os.Stat(filepath.Join(dir, name))
		is.NoErr(t, err)
		is.Equal(t, st.Mode().Perm(), os.FileMode(0o600), name)
	}
	again, err := NewAuthority(dir, "other")
	is.NoErr(t, err)
	is.Equal(t, again.Fingerprint(), a.Fingerprint(), "a second CA was made")
	made, err = again.Issue(fe1)
	is.NoErr(t, err)
	is.True(t, !made, "a good certificate was replaced")
	pair, err := loadPair(filepath.Join(dir, "fe1.example.test.pem"), filepath.Join(dir, "fe1.example.test.key"))
	is.NoErr(t, err)
	c := pair.Leaf
	is.Equal(t, c.DNSNames, []string{"fe1.example.test", "pool1.example.test"})
	is.Equal(t, texts(c.URIs), []string{"sip:fe1.example.test", "sip:pool1.example.test", "sip:example.test"})
	is.NoErr(t, c.VerifyHostname("127.0.1.1"))
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err = c.Verify(x509.VerifyOptions{Roots: pool, DNSName: "pool1.example.test", KeyUsages: []x509.ExtKeyUsage{use}})
		is.NoErr(t, err)
	}
	more := fe1
	more.Names = []string{"pool1.example.test", "new.example.test"}
	made, err = a.Issue(more)
	is.NoErr(t, err)
	is.True(t, made, "other names need another certificate")
	is.True(t, !a.fits(&x509.Certificate{NotAfter: time.Now().Add(time.Hour)}, fe1))
	for _, bad := range []string{"", "../x", "a/b", ".hidden"} {
		_, err = a.Issue(Host{Name: bad})
		is.True(t, err != nil, bad)
	}
}

func TestAuthorityExport(t *testing.T) {
	a, dir := authority(t)
	_, err := a.Issue(fe1)
	is.NoErr(t, err)
	to := filepath.Join(t.TempDir(), "edge")
	is.NoErr(t, a.Export(fe1.Name, to))
	_, err = os.Stat(filepath.Join(to, "ca.key"))
	is.True(t, errors.Is(err, fs.ErrNotExist), "the CA's key left the house")
	_, err = OpenKeys(KeysConfig{Dir: to, Host: fe1.Name})
	is.NoErr(t, err)
	_, err = NewAuthority(to, "x")
	is.Err(t, err, "certificates are made where the key is")
	_, err = OpenAuthority(to)
	is.True(t, errors.Is(err, fs.ErrNotExist))
	is.Err(t, a.Export("unknown.example.test", t.TempDir()), "no such file")
	is.Err(t, a.Export(fe1.Name, dir), "a CA of its own")
	key, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	is.NoErr(t, err)
	is.NoErr(t, os.WriteFile(filepath.Join(dir, "ca.key"), bytes.Replace(key, []byte("M"), []byte("?"), 1), 0o600))
	_, err = OpenAuthority(dir)
	is.Err(t, err, "holds no")
	is.True(t, !strings.Contains(err.Error(), string(key[40:60])), "the key is in the error")
}

func TestKeys(t *testing.T) {
	a, dir := authority(t)
	_, err := a.Issue(fe1)
	is.NoErr(t, err)
	// A public certificate by file: made by another CA here.
	other, pub := authority(t)
	_, err = other.Issue(Host{Name: "example.test", Names: []string{"*.meet.example.test"}})
	is.Err(t, err, "") // a wildcard is not issued for a server of ours
	_, err = other.Issue(Host{Name: "example.test", Names: []string{"sip.example.test"}})
	is.NoErr(t, err)
	var log bytes.Buffer
	k, err := OpenKeys(KeysConfig{Dir: dir, Host: fe1.Name, Renew: &fe1, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Public: []CertificateFile{{Cert: filepath.Join(pub, "example.test.pem"), Key: filepath.Join(pub, "example.test.key")}}})
	is.NoErr(t, err)
	for name, want := range map[string]string{"fe1.example.test": "fe1.example.test", "POOL1.example.test.": "fe1.example.test",
		"example.test": "example.test", "SIP.example.test": "example.test", "": "example.test", "unknown.test": "example.test"} {
		c, err := k.Certificate("frontend/sips", name)
		is.NoErr(t, err)
		is.Equal(t, c.Leaf.Subject.CommonName, want, name)
	}
	before, pool := k.now.Load().own, k.Internal()
	is.NoErr(t, k.Reload())
	is.True(t, sameCertificate(before, k.now.Load().own))
	is.True(t, pool == k.Internal(), "the same trust is the same pool")
	is.NoErr(t, os.Remove(filepath.Join(dir, "fe1.example.test.pem")))
	is.NoErr(t, k.Reload(), "made anew")
	is.True(t, !sameCertificate(before, k.now.Load().own))
	is.NoErr(t, os.WriteFile(filepath.Join(pub, "example.test.pem"), []byte("rubbish"), 0o644))
	is.True(t, k.Reload() != nil)
	c, err := k.Certificate("", "example.test")
	is.True(t, err == nil && c.Leaf.Subject.CommonName == "example.test", "after a bad reload the old ones stay")

	log.Reset()
	end := c.Leaf.NotAfter
	for _, days := range []int{40, 31, 30, 29, 8, 7, 6, 1, 0, -1, -1, -2} {
		k.Warn(end.Add(time.Duration(days) * 24 * time.Hour * -1).Add(-time.Hour))
	}
	lines := strings.Count(log.String(), "example.test.pem")
	is.True(t, strings.Contains(log.String(), "days=30") && strings.Contains(log.String(), "days=7") && strings.Contains(log.String(), "has expired"), log.String())
	is.True(t, lines >= 4 && !strings.Contains(log.String(), "days=29") && !strings.Contains(log.String(), "days=6"), log.String())
	list := k.Expiries(time.Now())
	is.Equal(t, []string{list[0].Name, list[1].Name, list[2].Name}, []string{"CA", "fe1.example.test", "example.test"})
	is.True(t, !list[0].Warning() && list[0].Days > 7000)
}

// TestRotation changes the certificate under a living connection.
func TestRotation(t *testing.T) {
	a, dir := authority(t)
	_, err := a.Issue(fe1)
	is.NoErr(t, err)
	k, err := OpenKeys(KeysConfig{Dir: dir, Host: fe1.Name})
	is.NoErr(t, err)
	server := &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: k.Internal(), SessionTicketsDisabled: true,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return k.Certificate("", h.ServerName) }}
	client := &tls.Config{RootCAs: k.Internal(), ServerName: "pool1.example.test",
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return k.ClientCertificate("") }}
	connect := func() (near *tls.Conn, far *tls.Conn) {
		x, y := net.Pipe()
		near, far = tls.Client(x, client), tls.Server(y, server)
		done := make(chan error, 1)
		go func() { done <- far.Handshake() }()
		is.NoErr(t, near.Handshake())
		is.NoErr(t, <-done)
		return near, far
	}
	near, far := connect()
	was := near.ConnectionState().PeerCertificates[0]
	is.NoErr(t, os.Remove(filepath.Join(dir, "fe1.example.test.pem")))
	_, err = a.Issue(fe1)
	is.NoErr(t, err)
	is.NoErr(t, k.Reload())
	fresh, _ := connect()
	is.True(t, !fresh.ConnectionState().PeerCertificates[0].Equal(was), "new connections get the new certificate")
	go far.Write([]byte("still here"))
	b := make([]byte, 10)
	n, err := near.Read(b)
	is.NoErr(t, err)
	is.Equal(t, string(b[:n]), "still here")
}
