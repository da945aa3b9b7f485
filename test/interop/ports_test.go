package interop

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"fernamt/test/is"
)

// The tests of this file take the doors at their own numbers, in a network of their
// own. They are what `fernamt ports --seed` answers by.

// onRealPorts starts the lab without an offset.
func onRealPorts(t *testing.T) *lab {
	t.Helper()
	dir := t.TempDir()
	l := serve(t, dir, 0, "lab", "--data", dir)
	waitReady(t, l)
	return l.during(t)
}

// TestPort5060: two phones register at 5060 by TCP, in clear, and talk.
// Seed: R01, R61, R71
func TestPort5060(t *testing.T) {
	need(t, "baresip")
	if !isolated(t) {
		return
	}
	l := onRealPorts(t)
	is.Equal(t, l.Ports["sip"], 5060)
	talk(t, l, "tcp", "tcp", pcmu)
	message(t, l, "tcp")
}

// TestPort5061: two phones register at 5061 by TLS, check the server's certificate,
// and talk.
// Seed: R01, R62, R72
func TestPort5061(t *testing.T) {
	need(t, "baresip")
	if !isolated(t) {
		return
	}
	l := onRealPorts(t)
	is.Equal(t, l.Ports["sips"], 5061)
	talk(t, l, "tls", "tls", pcmu)
	message(t, l, "tls")
}

// TestPortsOfDirector: phones sign in at the director's 5060 and 5061, which passes
// them on to their front end; they talk through it.
// Seed: R42
func TestPortsOfDirector(t *testing.T) {
	need(t, "baresip")
	if !isolated(t) {
		return
	}
	l := onRealPorts(t)
	is.Equal(t, l.Doors["director/sip"], "tcp:127.0.0.2:5060")
	is.Equal(t, l.Doors["director/sips"], "tcp:127.0.0.2:5061")
	via := func(user, transport, port string, tone int) phone {
		ph := l.phone(user, transport, pcmu, tone)
		ph.server = "127.0.0.2:" + port
		return ph
	}
	alice := startBaresip(t, via("alice", "tcp", "5060", 440)).registered(t)
	ph := via("bob", "tls", "5061", 1000)
	ph.auto = true
	bob := startBaresip(t, ph).registered(t)
	out, _ := l.command(t, "dump", "registrations")
	is.True(t, strings.Contains(out, "alice@example.test") && strings.Contains(out, "bob@example.test"), out)
	alice.do(t, "dial", "sip:bob@"+l.Domain)
	bob.await(t, "CALL_ESTABLISHED")
	bob.hears(t, 440)
	alice.hears(t, 1000)
}

// twoHosts starts a host whose settings know a second one, and gives the folder
// with the second one's certificate.
func twoHosts(t *testing.T) (l *lab, certs string) {
	t.Helper()
	dir := t.TempDir()
	first := serve(t, dir, 0, "lab", "--data", dir) // fills the folder: accounts, authority
	waitReady(t, first)
	first.stop()
	file := filepath.Join(dir, "fernamt.toml")
	b, err := os.ReadFile(file)
	is.NoErr(t, err)
	const second = "\n[[pool]]\nname = \"pool2.example.test\"\n\n[[host]]\nname = \"fe2.example.test\"\nroles = [\"frontend\", \"manage\"]\n" +
		"pool = \"pool2.example.test\"\ninternal = [\"127.0.9.2\"]\n\n[edge]"
	toml := strings.Replace(string(b), "name = \"lab.example.test\"", "name = \"lab.example.test\"\npool = \"pool.example.test\"", 1)
	toml = strings.Replace(toml, "\n[edge]", second, 1)
	is.NoErr(t, os.WriteFile(file, []byte(toml), 0o600))
	l = serve(t, dir, 0, "start", "--data", dir, "--host", "lab.example.test")
	waitReady(t, l)
	l.during(t)
	out := filepath.Join(t.TempDir(), "fe2")
	said, status := l.command(t, "config", "export", "fe2.example.test", "--output", out)
	is.Equal(t, status, 0, said)
	return l, filepath.Join(out, "certs")
}

// secure speaks TLS by openssl: text goes in, what came back until quiet comes out.
func secure(t *testing.T, to, certs, text string, want string) string {
	t.Helper()
	args := []string{"s_client", "-connect", to, "-servername", "lab.example.test", "-CAfile", filepath.Join(certs, "ca.pem"),
		"-verify_return_error", "-verify_hostname", "lab.example.test", "-quiet"}
	if certs != "" {
		args = append(args, "-cert", filepath.Join(certs, "fe2.example.test.pem"), "-key", filepath.Join(certs, "fe2.example.test.key"))
	}
	p := start(t, launch{in: true}, "openssl", args...)
	defer p.kill()
	_, err := p.in.Write([]byte(text))
	is.NoErr(t, err)
	end := time.Now().Add(10 * time.Second)
	for time.Now().Before(end) && !strings.Contains(p.output(), want) && !p.ended() {
		time.Sleep(20 * time.Millisecond)
	}
	return p.output()
}

// TestServersAt5061: OpenSSL, with the certificate of another of our hosts, is taken
// for a server by mutual TLS: what it brings needs no password. Without the
// certificate it does. The front end and the director do the same.
// Seed: R01, R42
func TestServersAt5061(t *testing.T) {
	need(t, "openssl")
	if !isolated(t) {
		return
	}
	l, certs := twoHosts(t)
	for name, at := range map[string]string{"frontend": "127.0.0.1:5061", "director": "127.0.0.2:5061"} {
		text := fmt.Sprintf("MESSAGE sip:bob@example.test SIP/2.0\r\nVia: SIP/2.0/TLS fe2.example.test;branch=z9hG4bK-%[1]s\r\nMax-Forwards: 70\r\n"+
			"From: <sip:alice@example.test>;tag=1\r\nTo: <sip:bob@example.test>\r\nCall-ID: %[1]s@fe2\r\nCSeq: 1 MESSAGE\r\n"+
			"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello", name)
		said := secure(t, at, certs, text, "SIP/2.0 202")
		is.True(t, strings.Contains(said, "SIP/2.0 202"), name+", with the certificate: "+said)
	}
	stranger := openRaw(t, "127.0.0.1:5060")
	is.Equal(t, status(stranger.persist(t, stranger.request("MESSAGE", toBob, "sip:alice@example.test", toBob), 5*time.Second)), 407)
	bob := openRaw(t, "127.0.0.1:5060")
	bob.register(t, account{"bob@example.test", l.password("bob")}, 300)
	is.Equal(t, len(readAll(t, bob)), 1, "one text")
}

// TestPort135: OpenSSL, with a host's certificate, asks for the users at 135 and
// moves one of them to another pool; a certificate of somebody else gets nothing.
// Seed: R05
func TestPort135(t *testing.T) {
	need(t, "openssl")
	if !isolated(t) {
		return
	}
	l, certs := twoHosts(t)
	said := secure(t, "127.0.0.1:135", certs, frames(`{"argv":["user","move","dave@example.test","pool2.example.test"]}`, `{"eof":true}`), `"exit":0`)
	is.True(t, strings.Contains(said, `"exit":0`), said)
	out, status := l.command(t, "user", "show", "dave@example.test")
	is.Equal(t, status, 0)
	is.True(t, regexp.MustCompile(`pool2\.example\.test`).MatchString(out), "dave has not moved: "+out)

	other := t.TempDir()
	made, status := run(t, 20*time.Second, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=fe2.example.test",
		"-keyout", filepath.Join(other, "fe2.example.test.key"), "-out", filepath.Join(other, "fe2.example.test.pem"), "-days", "1")
	is.Equal(t, status, 0, made)
	ca, err := os.ReadFile(filepath.Join(certs, "ca.pem"))
	is.NoErr(t, err)
	is.NoErr(t, os.WriteFile(filepath.Join(other, "ca.pem"), ca, 0o600))
	said = secure(t, "127.0.0.1:135", other, frames(`{"argv":["user","list"]}`, `{"eof":true}`), `"exit"`)
	is.True(t, !strings.Contains(said, `"exit"`) && !strings.Contains(said, "alice"), "a stranger was let in: "+said)
}

// frames puts each text behind its length in four octets.
func frames(texts ...string) string {
	var b []byte
	for _, t := range texts {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(t))), t...)
	}
	return string(b)
}
