package host

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fernamt/core/admin"
	"fernamt/core/config"
	"fernamt/test/is"
	"fernamt/wire/ports"
)

// pair writes a self-signed certificate for name that ends after life.
func pair(t *testing.T, dir, name string, life time.Duration) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	is.NoErr(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-400 * 24 * time.Hour), NotAfter: time.Now().Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	is.NoErr(t, err)
	k, err := x509.MarshalPKCS8PrivateKey(key)
	is.NoErr(t, err)
	is.NoErr(t, os.WriteFile(filepath.Join(dir, "pub.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	is.NoErr(t, os.WriteFile(filepath.Join(dir, "pub.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}), 0o600))
}

// checked is what check --format json says, by area; the text is the first bad finding's, or the first's.
func (r *rig) checked(status int) map[string]admin.Finding {
	r.t.Helper()
	got, out, errs := r.do("", "check --format json")
	is.Equal(r.t, got, status, out+errs)
	var all struct {
		OK       bool
		Findings []admin.Finding
	}
	is.NoErr(r.t, json.Unmarshal([]byte(out), &all), out)
	is.Equal(r.t, all.OK, status == 0)
	m := map[string]admin.Finding{}
	for _, f := range all.Findings {
		if old, ok := m[f.Area]; !ok || old.OK && !f.OK {
			m[f.Area] = f
		}
		is.True(r.t, f.OK || f.Mend != "", "no way to mend: "+f.What)
	}
	return m
}

func TestCheck(t *testing.T) {
	r := newRig(t, &echo{})
	is.Equal(t, r.checked(1)["settings"].Mend, "fernamt quickstart DOMAIN")
	r.start("lab").end(t)
	is.NoErr(t, os.Chmod(r.dir, 0o700))
	m := r.checked(0)
	for _, area := range []string{"settings", "ports", "certificates", "clock", "firewall", "storage", "dns"} {
		is.True(t, m[area].OK && m[area].What != "", area)
	}
	is.NoErr(t, os.Chmod(r.dir, 0o755))
	is.Equal(t, r.checked(1)["storage"].Mend, "chmod 700 "+r.dir)
	is.NoErr(t, os.Chmod(r.dir, 0o700))

	store := filepath.Join(r.dir, "store.db")
	later := time.Now().Add(48 * time.Hour)
	is.NoErr(t, os.Chtimes(store, later, later))
	is.Equal(t, r.checked(1)["clock"].Mend, "timedatectl set-ntp true")
	now := time.Now()
	is.NoErr(t, os.Chtimes(store, now, now))

	b, err := os.ReadFile(store)
	is.NoErr(t, err)
	is.NoErr(t, os.WriteFile(store, append(b[:4096:4096], make([]byte, len(b)-4096)...), 0o600))
	is.True(t, strings.Contains(r.checked(1)["storage"].Mend, "fernamt restore"), "a damaged store")
}

// TestCheckCertificates: expired, soon to expire, for another name.
func TestCheckCertificates(t *testing.T) {
	for _, c := range []struct {
		life time.Duration
		want string
	}{
		{-24 * time.Hour, "expired on"}, {20*24*time.Hour + time.Hour, "expires in 20 days"}, {6*24*time.Hour + time.Hour, "expires in 6 days"},
		{90 * 24 * time.Hour, ""},
	} {
		r := newRig(t)
		r.start("lab").end(t)
		r.settle("[edge]", "[[certificate]]\ncert = \"pub.pem\"\nkey = \"file:pub.key\"\n[edge]")
		pair(t, r.dir, "example.test", c.life)
		if c.want == "" {
			r.checked(0)
			continue
		}
		f := r.checked(1)["certificates"]
		is.True(t, strings.Contains(f.What, c.want) && strings.Contains(f.Mend, "pub.pem"), c.want+" not in "+f.What)
	}
	r := newRig(t)
	r.start("lab").end(t)
	is.NoErr(t, os.Remove(filepath.Join(r.dir, "certs", "lab.example.test.key")))
	is.True(t, strings.Contains(r.checked(1)["certificates"].What, "lab.example.test.key"), "a lost key")
	is.Equal(t, r.start("lab").end(t), 0) // makes what is missing
	r.checked(0)
}

// TestPorts: every format, both languages, with and without settings.
func TestPorts(t *testing.T) {
	r := newRig(t, &echo{})
	r.settle("[edge]", "[edge]")
	r.want(0, "echo0/door", "ports")
	r.want(0, "Hallo", "ports --lang de")
	r.want(0, "| host/health | 9061 |", "ports --format md")
	r.want(0, "host/health\t9061\ttcp", "ports --format tsv")
	var doors struct {
		Doors []struct {
			Door string
			From int
		}
	}
	is.NoErr(t, json.Unmarshal([]byte(r.want(0, "", "ports --format json")), &doors))
	is.Equal(t, len(doors.Doors), 4) // health, two for DNS, echo0; no PostgreSQL, no HOMER
	var rows struct{ Rows []ports.Answer }
	is.NoErr(t, json.Unmarshal([]byte(r.want(0, "", "ports --seed --format json")), &rows))
	is.Equal(t, len(rows.Rows), 73)
	r.want(1, "no server runs", "ports --live")
	r.want(2, "do not go together", "ports --live --seed")
	r.want(2, "--lang fr: allowed are en, de", "ports --lang fr")
	for _, p := range ownPorts(nil) {
		is.NoErr(t, p.Check())
	}
}

// TestCheckStores: several hosts with a store each do not know one another's people; and what others made, start cannot make anew.
func TestCheckStores(t *testing.T) {
	r := newRig(t, &echo{})
	s := config.Defaults()
	s.File = filepath.Join(r.dir, settingsFile)
	s.Hosts = []config.Host{{Name: "a", Roles: []string{"frontend"}}, {Name: "b", Roles: []string{"director"}}}
	told := func(s *config.Settings) bool {
		f := &admin.Findings{}
		p := r.program("", &output{}, &output{})
		p.data = r.dir
		p.checkStorage(t.Context(), f, s)
		return slices.ContainsFunc(f.List, func(x admin.Finding) bool { return !x.OK && strings.Contains(x.What, "several hosts need PostgreSQL") })
	}
	is.True(t, told(s), "two stores")
	s.Hosts = s.Hosts[:1]
	is.True(t, !told(s), "one store")
	s.Certificates = []config.Certificate{{Cert: "pub.pem"}}
	is.True(t, strings.Contains(mendKeys(s, errors.New("certificate "+s.Path("pub.pem")+": bad")), "get the certificate"), "from outside")
	is.True(t, strings.Contains(mendKeys(s, errors.New("x")), "fernamt start"), "our own")
}

// TestQuickstartNoRight: a folder that cannot be looked into is not said to be full.
func TestQuickstartNoRight(t *testing.T) {
	r := newRig(t)
	is.NoErr(t, os.WriteFile(filepath.Join(r.dir, "file"), nil, 0o600))
	r.dir = filepath.Join(r.dir, "file", "below")
	status, _, errs := r.do("", "quickstart a.test --address 127.0.0.1")
	is.True(t, status == 1 && strings.Contains(errs, "not a directory") && !strings.Contains(errs, "already"), errs)
}
