package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fernamt/test/is"
)

// writeCertificate writes a self-signed certificate for example.test that ends at
// until, and its key, into dir.
func writeCertificate(t *testing.T, dir string, until time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	is.NoErr(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example.test"}, DNSNames: []string{"example.test"},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	is.NoErr(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	is.NoErr(t, err)
	for name, block := range map[string]*pem.Block{"public.pem": {Type: "CERTIFICATE", Bytes: der}, "public.key": {Type: "PRIVATE KEY", Bytes: secret}} {
		is.NoErr(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
}

// TestExpiredCertificate: check says in one line which file has expired since when
// and exits 1; one that ends soon is a warning; the lab's own doors go on.
func TestExpiredCertificate(t *testing.T) {
	for _, c := range []struct {
		name   string
		until  time.Duration
		status int
		word   string
	}{
		{"expired", -24 * time.Hour, 1, "expired"},
		{"ends in six days", 6 * 24 * time.Hour, 1, "expires"},
		{"good for a year", 365 * 24 * time.Hour, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, off := t.TempDir(), offset()
			is.NoErr(t, os.Chmod(dir, 0o700)) // which check would name otherwise
			until := time.Now().Add(c.until)
			writeCertificate(t, dir, until)
			writeSettings(t, dir, func(toml string) string {
				return toml + "\n[[certificate]]\ncert = \"public.pem\"\nkey = \"file:public.key\"\n"
			})
			l := serve(t, dir, off, "lab", "--data", dir)
			waitReady(t, l)
			l.during(t)
			out, status := l.command(t, "check", "--port-offset", fmt.Sprint(off))
			is.Equal(t, status, c.status, out)
			if c.word != "" {
				is.True(t, strings.Contains(lineWith(out, "public.pem"), c.word), "check says: "+out)
				is.True(t, strings.Contains(lineWith(l.log(), "public.pem"), c.word), "the log says: "+l.log())
			}
			is.True(t, answers(l.addr("sip")), "SIP is served")
		})
	}
}

func lineWith(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return line
		}
	}
	return ""
}
