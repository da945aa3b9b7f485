package ident

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Authority is the internal certificate authority, by whose certificates the hosts of an
// installation know one another. It lives in a folder:
//
//	ca.pem       its certificate, and older ones that are still trusted
//	ca.key       its key, readable by the owner only; not on an edge, which has no use for it
//	HOST.pem     a host's certificate with the CA's below it
//	HOST.key     a host's key, readable by the owner only
//
// All keys are ECDSA on P-256. Use it from one goroutine.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	all  []*x509.Certificate
}

// How long certificates live, and how long before the end a host's is made anew.
const (
	authorityLife = 20 * 365 * 24 * time.Hour
	hostLife      = 398 * 24 * time.Hour
	renewBefore   = 60 * 24 * time.Hour
	clockSkew     = time.Hour // a new certificate counts on hosts whose clock is behind too
)

const (
	authorityCert = "ca.pem"
	authorityKey  = "ca.key"
)

// NewAuthority opens the authority in dir, or makes one there when the folder has none. name
// goes into its certificate ("Fernamt example.test").
func NewAuthority(dir, name string) (*Authority, error) {
	a, err := OpenAuthority(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	if _, err := os.Stat(filepath.Join(dir, authorityCert)); err == nil {
		return nil, fmt.Errorf("folder %s has a CA's certificate without its key: "+
			"certificates are made where the key is, and brought here by 'fernamt config export'", dir)
	}
	if a, err = makeAuthority(dir, name); err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	return a, nil
}

// OpenAuthority opens the authority in dir; an error that is fs.ErrNotExist says that its
// key is not there.
func OpenAuthority(dir string) (*Authority, error) {
	certs, err := readCertificates(filepath.Join(dir, authorityCert))
	if err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	key, err := readKey(filepath.Join(dir, authorityKey))
	if err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	a := &Authority{dir: dir, cert: certs[0], key: key, all: certs}
	if !key.PublicKey.Equal(a.cert.PublicKey) {
		return nil, fmt.Errorf("open CA: %s and %s do not belong together", authorityCert, authorityKey)
	}
	return a, nil
}

func makeAuthority(dir, name string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name + " CA", Organization: []string{"Fernamt"}},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	// The key first: with a certificate alone the folder would look like an edge's.
	if err := writeKey(filepath.Join(dir, authorityKey), key); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(dir, authorityCert), encode(der), 0o644); err != nil {
		return nil, err
	}
	return &Authority{dir: dir, cert: cert, key: key, all: []*x509.Certificate{cert}}, nil
}

func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	b[0] &= 0x7f           // RFC 5280 §4.1.2.2: positive
	return new(big.Int).SetBytes(b[:])
}

// Host is what a certificate is for.
type Host struct {
	Name      string   // "fe1.example.test"; names its files
	Names     []string // further DNS names
	Addresses []net.IP
	Domains   []string // SIP domains that it may speak for: they become sip: URIs
}

// Issue makes the certificate of a host if there is none, if it ends within 60 days, or if
// it is for other names. made says that it did.
func (a *Authority) Issue(h Host) (made bool, err error) {
	base := filepath.Join(a.dir, h.Name)
	// No wildcards among them: RFC 5922 §7.2 gives them no meaning for SIP.
	for _, n := range slices.Concat([]string{h.Name}, h.Names, h.Domains) {
		if err := checkHost(n); err != nil {
			return false, fmt.Errorf("issue certificate: %w", err)
		}
	}
	have, err := readCertificates(base + ".pem")
	if err == nil && a.fits(have[0], h) {
		if _, err := readKey(base + ".key"); err == nil {
			return false, nil
		}
	}
	cert, key, err := a.issue(h)
	if err == nil {
		err = writePair(base, cert, key)
	}
	if err != nil {
		return false, fmt.Errorf("issue certificate for %s: %w", h.Name, err)
	}
	return true, nil
}

// fits says whether the certificate is still good for the host.
func (a *Authority) fits(c *x509.Certificate, h Host) bool {
	want := a.template(h)
	same := func(x, y []string) bool { return slices.Equal(sorted(x), sorted(y)) }
	return c.CheckSignatureFrom(a.cert) == nil && time.Until(c.NotAfter) > renewBefore && !time.Now().Before(c.NotBefore) &&
		same(c.DNSNames, want.DNSNames) && same(texts(c.IPAddresses), texts(want.IPAddresses)) && same(texts(c.URIs), texts(want.URIs))
}

func texts[T fmt.Stringer](list []T) []string {
	out := make([]string, 0, len(list))
	for _, v := range list {
		out = append(out, v.String())
	}
	return out
}

func (a *Authority) template(h Host) *x509.Certificate {
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: h.Name, Organization: []string{"Fernamt"}},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(hostLife),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses:           h.Addresses,
	}
	if t.NotAfter.After(a.cert.NotAfter) {
		t.NotAfter = a.cert.NotAfter
	}
	for _, n := range append([]string{h.Name}, h.Names...) {
		if n = lowerASCII(n); !slices.Contains(t.DNSNames, n) {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	// RFC 5922 §7.1: with a sip: URI in the certificate its DNS names no longer count as SIP
	// identities, so where domains are named, the host's own names are named too.
	if len(h.Domains) > 0 {
		for _, n := range append(slices.Clone(t.DNSNames), h.Domains...) {
			u := &url.URL{Scheme: "sip", Opaque: lowerASCII(n)}
			if !slices.Contains(texts(t.URIs), u.String()) {
				t.URIs = append(t.URIs, u)
			}
		}
	}
	return t
}

func (a *Authority) issue(h Host) (der []byte, key *ecdsa.PrivateKey, err error) {
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, err
	}
	der, err = x509.CreateCertificate(rand.Reader, a.template(h), a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	return append(encode(der), encode(a.cert.Raw)...), key, nil
}

// Export writes into the folder to what a host needs from this one: its certificate and key,
// and the CA's certificate. The CA's key stays here.
func (a *Authority) Export(host, to string) error {
	if err := checkHost(host); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if _, err := os.Stat(filepath.Join(to, authorityKey)); err == nil {
		return fmt.Errorf("export: folder %s has a CA of its own", to)
	}
	for _, f := range []struct {
		name string
		mode os.FileMode
	}{{authorityCert, 0o644}, {host + ".pem", 0o644}, {host + ".key", 0o600}} {
		b, err := os.ReadFile(filepath.Join(a.dir, f.name))
		if err == nil {
			err = writeFile(filepath.Join(to, f.name), b, f.mode)
		}
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	return nil
}

// Fingerprint is the SHA-256 of the CA's certificate, for people to compare.
func (a *Authority) Fingerprint() string {
	sum := sha256.Sum256(a.cert.Raw)
	return fmt.Sprintf("%X", sum)
}

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// readCertificates reads the certificates of a PEM file, at least one.
func readCertificates(path string) ([]*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return list, nil
}

// readKey reads one of our own keys. Its content never goes into an error.
func readKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key in PEM", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := k.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s holds no ECDSA key", path)
	}
	return key, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// writePair replaces certificate and key. A reader that comes in between sees two that do not
// belong together, and looks again.
func writePair(base string, cert []byte, key *ecdsa.PrivateKey) error {
	if err := writeKey(base+".key", key); err != nil {
		return err
	}
	return writeFile(base+".pem", cert, 0o644)
}

// writeFile puts a file in place whole and durable.
func writeFile(path string, b []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // no longer there when all went well
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// loadPair reads a certificate with its key, whoever made it.
func loadPair(cert, key string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", cert, key, err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, fmt.Errorf("certificate %s: %w", cert, err)
		}
	}
	return &pair, nil
}

func sameCertificate(a, b *tls.Certificate) bool {
	return a != nil && b != nil && len(a.Certificate) == len(b.Certificate) && bytes.Equal(a.Certificate[0], b.Certificate[0])
}

// fileName keeps a name from leading out of its folder.
func fileName(s string) bool { return s == filepath.Base(s) && !strings.HasPrefix(s, ".") }
