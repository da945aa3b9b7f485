package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/test/postgres"
)

// asFernamt in the environment makes the test binary the program itself.
const asFernamt = "FERNAMT_TEST_BINARY"

func TestMain(m *testing.M) {
	if os.Getenv(asFernamt) != "" {
		main()
		return
	}
	status := m.Run()
	database.Stop()
	os.Exit(status)
}

// database is started by the first test that needs it.
var database postgres.Server

// fernamt is a command of the real program on the real network.
func fernamt(ctx context.Context, dir string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, os.Args[0], append([]string{"--data", dir}, args...)...)
	c.Env = append(os.Environ(), asFernamt+"=1")
	return c
}

// offset moves the doors to where no other test of this machine has them.
func offset() string { return strconv.Itoa(11000 + os.Getpid()%9000) }

// running is a lab in a process of its own.
type running struct {
	cmd  *exec.Cmd
	out  bytes.Buffer
	errs bytes.Buffer
	done chan error
}

func start(t *testing.T, dir string, args ...string) *running {
	t.Helper()
	r := &running{cmd: fernamt(context.Background(), dir, args...), done: make(chan error, 1)}
	r.cmd.Stderr = &r.errs
	pipe, err := r.cmd.StdoutPipe()
	is.NoErr(t, err)
	is.NoErr(t, r.cmd.Start())
	t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	ready := make(chan bool, 1)
	go func() {
		s := bufio.NewScanner(io.TeeReader(pipe, &r.out))
		for s.Scan() {
			if s.Text() == "ready" {
				ready <- true
			}
		}
		r.done <- r.cmd.Wait()
		close(ready)
	}()
	select {
	case ok := <-ready:
		if !ok {
			t.Fatalf("ended: %s%s", &r.out, &r.errs)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("not ready after 30 s")
	}
	return r
}

// end sends a signal and waits.
func (r *running) end(t *testing.T, s syscall.Signal) error {
	t.Helper()
	is.NoErr(t, r.cmd.Process.Signal(s))
	select {
	case err := <-r.done:
		return err
	case <-time.After(5 * time.Second):
		t.Fatal("does not end within 5 s")
	}
	return nil
}

func status(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// note is what lab.json says.
func note(t *testing.T, dir string) (n struct {
	Users []struct{ Address, Password string }
	CA    string
	Ports map[string]int
}) {
	b, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	is.NoErr(t, err)
	is.NoErr(t, json.Unmarshal(b, &n))
	return n
}

// TestCommands holds exit statuses, on a machine where nothing runs.
func TestCommands(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		part   string
	}{
		{"version", 0, "fernamt "}, {"--version", 0, "fernamt "}, {"help", 0, "fernamt lab"}, {"", 0, "fernamt lab"},
		{"help user add", 0, "--password-stdin"}, {"user add --help", 0, "--password-stdin"},
		{"quikstart x", 2, "did you mean quickstart?"}, {"user", 2, "user needs one more word"}, {"start", 2, "quickstart DOMAIN"},
		{"user list", 2, "no such file"}, {"trace sip", 1, "no server runs"}, {"check", 1, "WRONG"},
		{"turn credentials alice@example.test", 1, "not there yet"}, {"dump presence", 1, "not there yet"},
		{"ports --seed", 0, "R73"}, {"ports", 2, "no such file"}, {"config describe", 0, "[frontend]"}, {"systemd", 0, "WatchdogSec"},
		{"--config", 2, "needs a value"},
	} {
		out, err := fernamt(t.Context(), t.TempDir(), strings.Fields(c.args)...).CombinedOutput()
		is.Equal(t, status(err), c.status, c.args+": "+string(out))
		is.True(t, strings.Contains(string(out), c.part), fmt.Sprintf("%s: %q not in %s", c.args, c.part, out))
	}
}

// TestLab starts the whole suite as people do, looks around, and ends it by every way.
func TestLab(t *testing.T) {
	dir := t.TempDir()
	is.NoErr(t, os.Chmod(dir, 0o700))
	r := start(t, dir, "lab", "--port-offset", offset())
	n := note(t, dir)
	do := func(want int, part string, args ...string) {
		t.Helper()
		out, err := fernamt(t.Context(), dir, args...).CombinedOutput()
		is.Equal(t, status(err), want, string(out))
		is.True(t, strings.Contains(string(out), part), fmt.Sprintf("%s not in %s", part, out))
	}
	do(0, "frontend/sips", "ports", "--live")
	do(0, fmt.Sprintf("pid %d", r.cmd.Process.Pid), "check", "--port-offset", offset())
	do(0, "[]", "dump", "registrations", "--format", "json")
	do(0, "true      register-udp", "play", "register-udp")
	do(0, "true      call ", "play", "call")
	do(1, "in use", "lab", "--port-offset", offset())

	// Another data folder, the same ports.
	other := t.TempDir()
	out, err := fernamt(t.Context(), other, "lab", "--port-offset", offset()).CombinedOutput()
	is.Equal(t, status(err), 1)
	is.True(t, strings.Contains(string(out), "address already in use"), string(out))
	out, err = fernamt(t.Context(), other, "check", "--port-offset", offset()).CombinedOutput()
	is.Equal(t, status(err), 1)
	is.True(t, strings.Contains(string(out), fmt.Sprintf("(pid %d)", r.cmd.Process.Pid)), string(out))

	is.NoErr(t, r.end(t, syscall.SIGTERM), r.errs.String())
	is.True(t, !strings.Contains(r.out.String()+r.errs.String(), n.Users[0].Password), "password said aloud")
	r = start(t, dir, "lab", "--port-offset", offset())
	is.Equal(t, status(r.end(t, syscall.SIGKILL)), -1)
	r = start(t, dir, "lab", "--port-offset", offset()) // what was left behind is no hindrance
	is.Equal(t, note(t, dir).Users, n.Users)
	is.NoErr(t, r.end(t, syscall.SIGINT), r.errs.String())
}

// TestPostgres: the same lab on PostgreSQL, reached through its declared door alone.
func TestPostgres(t *testing.T) {
	dsn := database.DSN(t)
	dir := t.TempDir()
	is.NoErr(t, os.Chmod(dir, 0o700))
	start(t, dir, "lab", "--port-offset", offset()).end(t, syscall.SIGTERM)
	settings := filepath.Join(dir, "fernamt.toml")
	b, err := os.ReadFile(settings)
	is.NoErr(t, err)
	u, err := url.Parse(dsn)
	is.NoErr(t, err)
	password, _ := u.User.Password()
	is.NoErr(t, os.WriteFile(filepath.Join(dir, "pg.password"), []byte(password+"\n"), 0o600))
	u.User = url.User(u.User.Username())
	is.NoErr(t, os.WriteFile(settings, append(b, fmt.Sprintf("\n[storage]\ndsn = %q\npassword = \"file:pg.password\"\n", u)...), 0o600))
	r := start(t, dir, "lab", "--port-offset", offset())
	for _, c := range []struct{ args, part string }{
		{"user add eve@example.test", "eve@example.test is there"}, {"user list", "alice@example.test"},
		{"ports --live", "host/postgres"}, {"check --port-offset " + offset(), "postgres, schema"},
		{"play message-offline", "true      message-offline"}, {"backup " + filepath.Join(dir, "b.gz"), "b.gz"},
	} {
		out, err := fernamt(t.Context(), dir, strings.Fields(c.args)...).CombinedOutput()
		is.Equal(t, status(err), 0, c.args+": "+string(out))
		is.True(t, strings.Contains(string(out), c.part), c.part+" not in "+string(out))
	}
	is.NoErr(t, r.end(t, syscall.SIGTERM), r.errs.String())
	out, err := fernamt(t.Context(), dir, "user", "show", "eve@example.test").CombinedOutput()
	is.Equal(t, status(err), 0, string(out))
}

// TestSystemd: readiness, the watchdog's pulse and the end are told.
func TestSystemd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	is.NoErr(t, err)
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "100000")
	r := start(t, t.TempDir(), "lab", "--port-offset", offset())
	hear := func(want string) {
		t.Helper()
		b := make([]byte, 1000)
		is.NoErr(t, l.SetReadDeadline(time.Now().Add(10*time.Second)))
		for {
			n, err := l.Read(b)
			is.NoErr(t, err, want)
			if strings.Contains(string(b[:n]), want) {
				return
			}
		}
	}
	hear(fmt.Sprintf("READY=1\nMAINPID=%d", r.cmd.Process.Pid))
	hear("WATCHDOG=1")
	hear("WATCHDOG=1")
	is.NoErr(t, r.cmd.Process.Signal(syscall.SIGTERM))
	hear("STOPPING=1")
	is.NoErr(t, <-r.done, r.errs.String())
}

// TestReload: SIGHUP takes up a new certificate; the old connection lives on.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	start(t, dir, "lab", "--port-offset", offset()).end(t, syscall.SIGTERM)
	settings := filepath.Join(dir, "fernamt.toml")
	f, err := os.OpenFile(settings, os.O_APPEND|os.O_WRONLY, 0o600)
	is.NoErr(t, err)
	fmt.Fprint(f, "\n[[certificate]]\nnames = [\"example.test\"]\ncert = \"pub.pem\"\nkey = \"file:pub.key\"\n")
	is.NoErr(t, f.Close())
	certificate(t, dir, 1)
	r := start(t, dir, "lab", "--port-offset", offset())
	at := fmt.Sprintf("127.0.0.1:%d", note(t, dir).Ports["sips"])
	old, serial := shown(t, at)
	defer old.Close()
	is.Equal(t, serial, int64(1))
	certificate(t, dir, 2)
	is.NoErr(t, r.cmd.Process.Signal(syscall.SIGHUP))
	for deadline := time.Now().Add(10 * time.Second); serial != 2; time.Sleep(20 * time.Millisecond) {
		var c *tls.Conn
		c, serial = shown(t, at)
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("the old certificate is still shown")
		}
	}
	_, err = io.WriteString(old, "\r\n\r\n") // RFC 5626 §3.5.1: a ping
	is.NoErr(t, err)
	is.NoErr(t, old.SetReadDeadline(time.Now().Add(5*time.Second)))
	b := make([]byte, 2)
	_, err = io.ReadFull(old, b)
	is.NoErr(t, err, "the old connection")
	is.Equal(t, string(b), "\r\n")
	is.NoErr(t, r.end(t, syscall.SIGTERM), r.errs.String())
}

func shown(t *testing.T, at string) (*tls.Conn, int64) {
	t.Helper()
	c, err := tls.Dial("tcp", at, &tls.Config{ServerName: "example.test", InsecureSkipVerify: true, NextProtos: []string{"sip/2"}})
	is.NoErr(t, err)
	return c, c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// certificate writes a self-signed one with that number.
func certificate(t *testing.T, dir string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	is.NoErr(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"example.test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(90 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	is.NoErr(t, err)
	k, err := x509.MarshalPKCS8PrivateKey(key)
	is.NoErr(t, err)
	is.NoErr(t, os.WriteFile(filepath.Join(dir, "pub.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}), 0o600))
	is.NoErr(t, os.WriteFile(filepath.Join(dir, "pub.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}
