package interop

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fernamt/test/is"
)

// TestRefusals: a phone with a wrong password, and one of nobody, are refused
// alike; what they asked for does not happen.
func TestRefusals(t *testing.T) {
	l := startLab(t, t.TempDir()).during(t)
	secret("never-my-password")
	r := openRaw(t, l.addr("sip"))
	for _, who := range []account{{"alice@example.test", "never-my-password"}, {"nobody@example.test", "never-my-password"}} {
		answer := r.as(t, who, 5*time.Second, ask{"REGISTER", "sip:example.test", "sip:" + who.address, []string{fmt.Sprintf("Contact: <sip:x@127.0.0.1:%d>", r.port())}})
		if c := status(answer); c != 401 && c != 403 {
			t.Errorf("%s: status %d", who.address, c)
		}
	}
	out, code := l.command(t, "dump", "registrations")
	is.Equal(t, code, 0)
	is.True(t, !strings.Contains(out, "127.0.0.1:"), out)
	r.register(t, l.account("alice"), 600)
}

// TestClearErrors: what goes wrong before the server runs is one line that names
// it, and an exit status.
func TestClearErrors(t *testing.T) {
	l := shared(t)
	good := labSettings(t)
	for _, c := range []struct {
		name, toml string
		status     int
		want       []string
	}{
		{"unknown key", good + "\nnonsense = 1\n", 2, []string{"fernamt.toml:", "nonsense"}},
		{"no TOML", "# Written by fernamt lab, which uses this folder again.\ndomains = [\n", 2, []string{"fernamt.toml:"}},
		{"wrong kind", setting(t, good, "", "domains", "7"), 2, []string{"fernamt.toml:", "domains"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			is.NoErr(t, os.WriteFile(filepath.Join(dir, "fernamt.toml"), []byte(c.toml), 0o600))
			out, status := run(t, 20*time.Second, built(t), "start", "--data", dir, "--port-offset", fmt.Sprint(offset()))
			oneLine(t, out, c.want...)
			is.Equal(t, status, c.status)
		})
	}
	t.Run("unreadable settings", func(t *testing.T) {
		out, status := run(t, 20*time.Second, built(t), "start", "--data", filepath.Join(t.TempDir(), "nowhere"))
		oneLine(t, out, "nowhere")
		is.Equal(t, status, 2)
	})
	t.Run("taken port", func(t *testing.T) {
		dir := t.TempDir()
		is.NoErr(t, os.WriteFile(filepath.Join(dir, "fernamt.toml"), []byte(good), 0o600))
		out, status := run(t, 30*time.Second, built(t), "lab", "--data", dir, "--port-offset", fmt.Sprint(l.offset))
		if status == 0 || !strings.Contains(out, "already in use") || strings.Contains(out, "\nready\n") {
			t.Errorf("exit %d:\n%s", status, out)
		}
	})
	t.Run("unknown user", func(t *testing.T) {
		out, status := l.command(t, "user", "show", "nobody@example.test")
		oneLine(t, out, "nobody@example.test")
		is.Equal(t, status, 1)
	})
}

func oneLine(t *testing.T, out string, want ...string) {
	t.Helper()
	out = strings.TrimSpace(out)
	if strings.Count(out, "\n") > 0 || strings.Contains(out, "goroutine ") {
		t.Errorf("not one line:\n%s", out)
	}
	for _, w := range want {
		is.True(t, strings.Contains(out, w), fmt.Sprintf("%q says nothing of %q", out, w))
	}
}

// TestEndsCleanly: SIGTERM in the middle of everything ends within five seconds,
// exit status 0, and the registration is there after the next start.
func TestEndsCleanly(t *testing.T) {
	dir := t.TempDir()
	l := startLab(t, dir)
	alice := openRaw(t, l.addr("sip"))
	alice.register(t, l.account("alice"), 600)
	idle, err := net.Dial("tcp", l.addr("sip"))
	is.NoErr(t, err)
	defer idle.Close()
	began := time.Now()
	l.signal(syscall.SIGTERM)
	is.Equal(t, l.exit(t, 10*time.Second), 0)
	is.True(t, time.Since(began) < 5*time.Second, "took "+time.Since(began).String())
	l = startLab(t, dir).during(t)
	out, status := l.command(t, "dump", "registrations")
	is.Equal(t, status, 0)
	is.True(t, strings.Contains(out, fmt.Sprint(alice.port())), "alice's phone is forgotten: "+out)
}

// TestSlowConnections: 2,000 connections that say a little now and then do not
// keep a good client from being served.
func TestSlowConnections(t *testing.T) {
	l := labWith(t, func(toml string) string {
		return setting(t, toml, "limits", "connections_per_address", "5000")
	}).during(t)
	const slow = 2000
	part := []byte("REGISTER sip:example.test SIP/2.0\r\nVia: SIP/2.0/TCP ")
	conns := make([]net.Conn, 0, slow)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for len(conns) < slow {
		c, err := net.Dial("tcp", l.addr("sip"))
		is.NoErr(t, err, fmt.Sprintf("connection %d", len(conns)))
		_, _ = c.Write(part[:len(conns)%len(part)])
		conns = append(conns, c)
	}
	stop := make(chan struct{})
	defer close(stop)
	go drip(conns, stop)
	alice, worst := openRaw(t, l.addr("sip")), time.Duration(0)
	for range 50 {
		began := time.Now()
		alice.register(t, l.account("alice"), 600)
		worst = max(worst, time.Since(began))
	}
	if worst > 2*time.Second {
		t.Errorf("the slowest of 50 registrations took %v", worst)
	}
	ph := l.phone("bob", "tcp", pcmu, 1000)
	if which("baresip") != "" {
		startBaresip(t, ph).registered(t)
	}
	l.alive(t)
}

// drip writes one octet to each connection, over and over.
func drip(conns []net.Conn, stop chan struct{}) {
	for {
		for _, c := range conns {
			_ = c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
			_, _ = c.Write([]byte("1"))
		}
		select {
		case <-stop:
			return
		case <-time.After(time.Second):
		}
	}
}
