package listen

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"fernamt/wire/ports"
)

// serverTLS is a socket's TLS: one base config, which keeps the ticket keys, and one per kind of client.
type serverTLS struct {
	once  sync.Once
	base  *tls.Config
	mu    sync.Mutex
	kinds map[kind]*tls.Config
}

// kind of client, as far as its hello tells. The pool is part of it, so that a new authority counts at once.
type kind struct {
	door   string
	protos string
	auth   tls.ClientAuthType
	pool   *x509.CertPool
}

// handshake does TLS and leaves the doors that server name, ALPN and the peer's certificate allow.
func (s *socket) handshake(r *raw, c *Conn, doors []*Door) ([]*Door, error) {
	s.tls.once.Do(func() {
		s.tls.base = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: s.configFor}
	})
	r.wanted = doors
	if err := r.SetDeadline(time.Now().Add(s.d.c.Limits.Handshake)); err != nil {
		return nil, err
	}
	t := tls.Server(r, s.tls.base)
	if err := t.Handshake(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	state := t.ConnectionState()
	c.Conn, c.secure, c.SNI, c.ALPN = t, t, state.ServerName, state.NegotiatedProtocol
	c.PeerNames = s.d.provenNames(state.PeerCertificates)
	doors, r.wanted = r.wanted, nil
	return doors, r.SetDeadline(time.Now().Add(s.d.c.Limits.FirstOctets))
}

// configFor answers a hello: it narrows the doors down and says what the client is shown and asked.
func (s *socket) configFor(h *tls.ClientHelloInfo) (*tls.Config, error) {
	r, ok := h.Conn.(*raw)
	if !ok {
		return nil, errors.New("hello on a connection that is not ours")
	}
	doors := byName(r.wanted, h.ServerName)
	if len(doors) == 0 {
		return nil, fmt.Errorf("no door is called %q here", h.ServerName)
	}
	doors, protos := byALPN(doors, h.SupportedProtos)
	r.wanted = doors
	k := kind{door: doors[0].Name, protos: strings.Join(protos, " "), auth: askFor(doors, h.SupportedProtos)}
	if k.auth != tls.NoClientCert {
		k.pool = s.d.c.Keys.Internal()
	}
	return s.tls.config(s.d.c.Keys, k, protos), nil
}

func (t *serverTLS) config(keys Keys, k kind, protos []string) *tls.Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.kinds[k]; c != nil {
		return c
	}
	if t.kinds == nil || len(t.kinds) > 64 { // old pools pile up
		t.kinds = map[kind]*tls.Config{}
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protos,
		ClientAuth: k.auth,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return keys.Certificate(k.door, h.ServerName)
		},
	}
	if k.auth == tls.RequireAndVerifyClientCert {
		// Otherwise the list of authorities stays out of the handshake: we look at the certificate ourselves, and one
		// of another authority is a stranger, not an error.
		c.ClientCAs = k.pool
	}
	t.kinds[k] = c
	return c
}

// byName leaves the doors that own the server name, or else those without names of their own.
func byName(doors []*Door, sni string) []*Door {
	owns := func(o *Door) bool {
		return slices.ContainsFunc(o.Names, func(n string) bool { return strings.EqualFold(n, strings.TrimSuffix(sni, ".")) })
	}
	if named := slices.DeleteFunc(slices.Clone(doors), func(o *Door) bool { return !owns(o) }); len(named) > 0 {
		return named
	}
	return slices.DeleteFunc(slices.Clone(doors), func(o *Door) bool { return len(o.Names) > 0 })
}

// byALPN leaves the doors that know one of the client's protocols, and gives what they know. A client that says nothing
// useful keeps them all and is told apart by its first octets.
func byALPN(doors []*Door, said []string) ([]*Door, []string) {
	var fit []*Door
	var protos []string
	for _, o := range doors {
		known := o.ALPN()
		if slices.ContainsFunc(known, func(p string) bool { return slices.Contains(said, p) }) {
			fit, protos = append(fit, o), append(protos, known...)
		}
	}
	if len(fit) == 0 {
		return doors, nil
	}
	slices.Sort(protos) // h2 before http/1.1
	return fit, slices.Compact(protos)
}

// askFor says whether the client is asked for a certificate: never a browser, which would trouble its user, unless every
// door there demands one.
func askFor(doors []*Door, said []string) tls.ClientAuthType {
	if !slices.ContainsFunc(doors, func(o *Door) bool { return o.TLS != ports.Mutual }) {
		return tls.RequireAndVerifyClientCert
	}
	if slices.Contains(said, "h2") || slices.Contains(said, "http/1.1") {
		return tls.NoClientCert
	}
	if slices.ContainsFunc(doors, func(o *Door) bool { return o.Family() == ports.SIP || o.TLS == ports.Mutual }) {
		return tls.RequestClientCert
	}
	return tls.NoClientCert
}

// provenNames are the peer's names if our own authority vouches for them; a resumed session is looked at anew.
func (d *Doors) provenNames(chain []*x509.Certificate) []string {
	pool := d.c.Keys.Internal()
	if len(chain) == 0 || pool == nil {
		return nil
	}
	if err := verify(chain, pool, x509.ExtKeyUsageClientAuth); err != nil {
		return nil
	}
	return Names(chain[0])
}

func verify(chain []*x509.Certificate, roots *x509.CertPool, use x509.ExtKeyUsage) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{use},
	})
	return err
}

// Names are the SIP identities of a certificate: the hosts of its sip: URIs, or without any of those its DNS names.
// Nil when it has none; the subject's common name does not count.
//
// RFC 5922 §7.1
func Names(c *x509.Certificate) []string {
	var names []string
	for _, u := range c.URIs {
		if !strings.EqualFold(u.Scheme, "sip") {
			continue
		}
		host, _, _ := strings.Cut(u.Opaque, ";")
		if host == "" || strings.Contains(host, "@") { // a person's, not a domain's
			continue
		}
		names = append(names, strings.ToLower(host))
	}
	if names != nil {
		return names
	}
	for _, n := range c.DNSNames {
		names = append(names, strings.ToLower(n))
	}
	return names
}

// proves says whether the certificate carries the name. For SIP a wildcard proves nothing; an IP address must stand in
// the certificate as one.
//
// RFC 5922 §7.2
func proves(c *x509.Certificate, name string, sip bool) error {
	name = strings.TrimSuffix(name, ".")
	if !sip || net.ParseIP(name) != nil {
		return c.VerifyHostname(name)
	}
	names := Names(c)
	if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
		return nil
	}
	return fmt.Errorf("the certificate is for %s, not for %s", strings.Join(names, ", "), name)
}
