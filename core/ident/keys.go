package ident

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// CertificateFile is a certificate for people outside, by file.
type CertificateFile struct {
	Names []string // names it is for; empty: those that stand in it
	Cert  string   // PEM: the certificate and the chain below it
	Key   string   // PEM
}

// KeysConfig says where a host's certificates are.
type KeysConfig struct {
	Dir    string // folder of the CA, see Authority
	Host   string // this host's name
	Public []CertificateFile
	Roots  *x509.CertPool // whom to trust outside; nil: the system's list
	Renew  *Host          // make this host's certificate anew when it nears its end; needs the CA's key in Dir
	Log    *slog.Logger   // nil: slog.Default()
}

// Keys hands out what TLS needs. It is asked at every handshake: after a Reload new
// connections get the new certificates, and living ones are not touched. All methods may be
// used by many goroutines; none blocks.
type Keys struct {
	cfg KeysConfig
	now atomic.Pointer[keySet]
}

type keySet struct {
	own       *tls.Certificate
	internal  *x509.CertPool
	authority []*x509.Certificate
	public    []publicKey
	byName    map[string]*tls.Certificate // lower case; "*.example.test" for a wildcard
	warned    map[string]int              // days of the last warning, by name
}

type publicKey struct {
	file CertificateFile
	pair *tls.Certificate
}

// OpenKeys reads the certificates.
func OpenKeys(cfg KeysConfig) (*Keys, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	k := &Keys{cfg: cfg}
	return k, k.Reload()
}

// Reload renews this host's certificate if it is due and reads all files again. After an
// error everything is as it was.
func (k *Keys) Reload() error {
	if k.cfg.Renew != nil {
		if err := k.renew(); err != nil {
			return err
		}
	}
	set, err := k.read()
	if err != nil {
		return fmt.Errorf("read certificates: %w", err)
	}
	old := k.now.Load()
	if old != nil {
		set.warned = old.warned
		if samePool(old, set) {
			set.internal = old.internal // the same trust is the same pool
		}
	}
	k.now.Store(set)
	return nil
}

func samePool(a, b *keySet) bool {
	if len(a.authority) != len(b.authority) {
		return false
	}
	for i, c := range a.authority {
		if !c.Equal(b.authority[i]) {
			return false
		}
	}
	return true
}

func (k *Keys) renew() error {
	a, err := OpenAuthority(k.cfg.Dir)
	if err != nil {
		return err
	}
	made, err := a.Issue(*k.cfg.Renew)
	if made {
		k.cfg.Log.Info("certificate issued", "host", k.cfg.Renew.Name)
	}
	return err
}

func (k *Keys) read() (*keySet, error) {
	if !fileName(k.cfg.Host) {
		return nil, errors.New("the host has no name")
	}
	set := &keySet{internal: x509.NewCertPool(), byName: map[string]*tls.Certificate{}, warned: map[string]int{}}
	var err error
	if set.authority, err = readCertificates(filepath.Join(k.cfg.Dir, authorityCert)); err != nil {
		return nil, err
	}
	for _, c := range set.authority {
		set.internal.AddCert(c)
	}
	base := filepath.Join(k.cfg.Dir, k.cfg.Host)
	if set.own, err = loadPair(base+".pem", base+".key"); err != nil {
		return nil, err
	}
	for _, f := range k.cfg.Public {
		pair, err := loadPair(f.Cert, f.Key)
		if err != nil {
			return nil, err
		}
		set.public = append(set.public, publicKey{f, pair})
		names := f.Names
		if len(names) == 0 {
			names = pair.Leaf.DNSNames
		}
		for _, n := range names {
			if _, ok := set.byName[lowerASCII(n)]; !ok {
				set.byName[lowerASCII(n)] = pair
			}
		}
	}
	return set, nil
}

// Certificate gives what to show at a door to a client that asked for name: the public
// certificate for that name, this host's own if it is for that name, else the first public
// one where the client named nobody we know, else the host's own. Peers inside ask for the
// name of the host or pool, which only the internal certificate carries.
func (k *Keys) Certificate(_, name string) (*tls.Certificate, error) {
	set := k.now.Load()
	name = lowerASCII(strings.TrimSuffix(name, "."))
	if name != "" {
		if c := set.byName[name]; c != nil {
			return c, nil
		}
		if set.own.Leaf.VerifyHostname(name) == nil {
			return set.own, nil
		}
		if _, rest, ok := strings.Cut(name, "."); ok {
			if c := set.byName["*."+rest]; c != nil {
				return c, nil
			}
		}
	}
	if len(set.public) > 0 {
		return set.public[0].pair, nil
	}
	return set.own, nil
}

// ClientCertificate gives what to show when dialling: this host's own certificate.
func (k *Keys) ClientCertificate(string) (*tls.Certificate, error) { return k.now.Load().own, nil }

// Internal is the authority that proves a peer one of ours.
func (k *Keys) Internal() *x509.CertPool { return k.now.Load().internal }

// Public is whom to trust outside; nil: the system's list.
func (k *Keys) Public() *x509.CertPool { return k.cfg.Roots }

// Expiry is when a certificate ends.
type Expiry struct {
	Name string // "CA", the host's name, or the first name of a public one
	File string
	End  time.Time
	Days int // whole days left; negative: it has ended
}

// Warning says whether it is time to warn: 30 and 7 days before the end, and at the end.
func (e Expiry) Warning() bool { return e.Days <= 30 }

// Expiries lists all certificates in use with their ends.
func (k *Keys) Expiries(now time.Time) []Expiry {
	set := k.now.Load()
	one := func(name, file string, c *x509.Certificate) Expiry {
		left := c.NotAfter.Sub(now)
		days := int(left / (24 * time.Hour))
		if left < 0 {
			days--
		}
		return Expiry{name, file, c.NotAfter, days}
	}
	list := []Expiry{
		one("CA", filepath.Join(k.cfg.Dir, authorityCert), set.authority[0]),
		one(k.cfg.Host, filepath.Join(k.cfg.Dir, k.cfg.Host+".pem"), set.own.Leaf),
	}
	for _, p := range set.public {
		name := p.file.Cert
		if len(p.file.Names) > 0 {
			name = p.file.Names[0]
		} else if len(p.pair.Leaf.DNSNames) > 0 {
			name = p.pair.Leaf.DNSNames[0]
		}
		list = append(list, one(name, p.file.Cert, p.pair.Leaf))
	}
	return list
}

// Warn logs certificates that near their end: once at 30 days, once at 7, and every day from
// the end on. Call it about once a day, and from one goroutine.
func (k *Keys) Warn(now time.Time) {
	warned := k.now.Load().warned
	for _, e := range k.Expiries(now) {
		step := 31
		switch {
		case e.Days < 0:
			step = e.Days
		case e.Days <= 7:
			step = 7
		case e.Days <= 30:
			step = 30
		}
		key := e.File + e.End.String()
		last, known := warned[key]
		if step > 30 || known && step >= last {
			continue
		}
		warned[key] = step
		if e.Days < 0 {
			k.cfg.Log.Error("certificate has expired", "name", e.Name, "file", e.File, "end", e.End.Format(time.DateOnly))
		} else {
			k.cfg.Log.Warn("certificate expires soon", "name", e.Name, "file", e.File, "end", e.End.Format(time.DateOnly), "days", e.Days)
		}
	}
}
