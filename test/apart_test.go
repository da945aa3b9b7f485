package test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fernamt/core/listen"
	"fernamt/test/is"
	"fernamt/test/play"
	"fernamt/test/plays"
	"fernamt/wire/sip"
)

// apartOffset moves every port of the processes: nothing else listens up there.
const apartOffset = 21000

// apartRoles are the processes: the n-th one lives on 127.0.1.n and plays one role.
var apartRoles = []string{"frontend", "director", "manage"}

// apart is a whole installation with each role in a process of its own, one settings file
// and one authority for all. There is no common database here: each process is given the
// same accounts.
type apart struct {
	t    *testing.T
	dir  string
	bin  string
	pass string
	run  map[string]*process
}

type process struct {
	cmd  *exec.Cmd
	done chan error
	logs *safeBuffer
}

// TestPlaysApart performs every play on processes that speak to one another over mutual TLS.
func TestPlaysApart(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the binary and starts processes; not with -short")
	}
	a := newApart(t)
	st := a.stage()
	all, err := play.All(plays.Files)
	is.NoErr(t, err)
	for _, p := range all {
		t.Run(strings.TrimSuffix(p.File, ".txt"), func(t *testing.T) {
			is.Equal(t, p.Missing(st), "")
			is.NoErr(t, p.Run(t.Context(), st, func(line int, sentence string) { t.Logf("%d: %s", line, sentence) }))
		})
	}
}

func newApart(t *testing.T) *apart {
	t.Helper()
	dir, err := os.MkdirTemp("", "apart")
	is.NoErr(t, err)
	a := &apart{t: t, dir: dir, bin: filepath.Join(dir, "fernamt"), pass: strings.ToLower(rand.Text()[:16]), run: map[string]*process{}}
	is.Secret(a.pass)
	t.Cleanup(func() {
		for role := range a.run {
			a.end(role, syscall.SIGTERM)
		}
		if logs := os.Getenv("FERNAMT_TEST_DIR"); logs != "" { // where they are searched for secrets
			for role, p := range a.run {
				is.NoErr(t, os.WriteFile(filepath.Join(logs, "apart-"+role+".log"), []byte(p.logs.String()), 0o600))
			}
		}
		if t.Failed() {
			for role, p := range a.run {
				t.Logf("log of %s:\n%s", role, p.logs.String())
			}
		}
		os.RemoveAll(dir)
	})
	out, err := exec.Command("go", "build", "-o", a.bin, "fernamt").CombinedOutput()
	is.NoErr(t, err, string(out))
	is.NoErr(t, os.WriteFile(filepath.Join(dir, "fernamt.toml"), []byte(apartSettings()), 0o600))
	for _, role := range apartRoles {
		a.must("", "--data", dir, "config", "export", role+".example.test", "--output", filepath.Join(dir, role))
		for _, user := range []string{"alice", "bob", "carol", "dave"} {
			a.must(a.pass, "--data", filepath.Join(dir, role), "user", "add", user+"@example.test", "--password-stdin")
		}
	}
	for _, role := range apartRoles {
		is.NoErr(t, a.start(t.Context(), role))
	}
	return a
}

func apartSettings() string {
	var b strings.Builder
	b.WriteString("domains = [\"example.test\"]\n[[pool]]\nname = \"pool.example.test\"\n")
	for i, role := range apartRoles {
		fmt.Fprintf(&b, "[[host]]\nname = \"%s.example.test\"\nroles = [\"%s\"]\ninternal = [\"127.0.1.%d\"]\nloopback = [\"127.0.1.%[3]d\"]\n",
			role, role, i+1)
	}
	return b.String()
}

// must runs the binary to its end with a line of input.
func (a *apart) must(in string, args ...string) {
	a.t.Helper()
	c := exec.Command(a.bin, args...)
	c.Stdin = strings.NewReader(in + "\n")
	out, err := c.CombinedOutput()
	is.NoErr(a.t, err, strings.Join(args, " "), string(out))
}

// start starts a role's process and waits for its line ready.
func (a *apart) start(ctx context.Context, role string) error {
	p := &process{done: make(chan error, 1), logs: &safeBuffer{}}
	p.cmd = exec.Command(a.bin, "--data", filepath.Join(a.dir, role), "start", "--host", role+".example.test",
		"--port-offset", fmt.Sprint(apartOffset))
	p.cmd.Stderr = p.logs
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	a.run[role] = p
	ready := make(chan bool, 1)
	go func() {
		s := bufio.NewScanner(out)
		for s.Scan() {
			if s.Text() == "ready" {
				ready <- true
			}
		}
		p.done <- p.cmd.Wait()
	}()
	select {
	case <-ready:
		return nil
	case err := <-p.done:
		p.done <- err
		return fmt.Errorf("%s ended: %v %s", role, err, p.logs.String())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end ends a role's process; it has five seconds for that.
func (a *apart) end(role string, with syscall.Signal) {
	p := a.run[role]
	if p == nil || p.cmd.ProcessState != nil {
		return
	}
	p.cmd.Process.Signal(with)
	select {
	case err := <-p.done:
		if with == syscall.SIGTERM && err != nil {
			a.t.Errorf("%s ended with %v", role, err)
		}
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		a.t.Errorf("%s did not end within 5 s", role)
	}
}

func (a *apart) stage() play.Stage {
	pem, err := os.ReadFile(filepath.Join(a.dir, "certs", "ca.pem"))
	is.NoErr(a.t, err)
	roots := x509.NewCertPool()
	is.True(a.t, roots.AppendCertsFromPEM(pem), "the authority's certificate")
	again := func(with syscall.Signal) func(context.Context) error {
		return func(ctx context.Context) error {
			a.end("frontend", with)
			return a.start(ctx, "frontend")
		}
	}
	return play.Stage{
		Domain:   "example.test",
		Password: func(string) string { return a.pass },
		Network:  play.Over(listen.Kernel(), netip.MustParseAddr("127.0.0.1"), roots, "example.test"),
		Server:   apartHop,
		Command: func(ctx context.Context, args []string) (string, error) {
			out, err := exec.CommandContext(ctx, a.bin, append([]string{"--data", filepath.Join(a.dir, "frontend")}, args...)...).CombinedOutput()
			return string(out), err
		},
		Restart: again(syscall.SIGTERM),
		Crash:   again(syscall.SIGKILL),
	}
}

func apartHop(role string, t sip.Transport) (sip.Hop, error) {
	port := map[sip.Transport]uint16{sip.UDP: 5060, sip.TCP: 5060, sip.TLS: 5061, sip.WS: 80, sip.WSS: 443}[t]
	at := netip.MustParseAddr("127.0.1.1")
	switch {
	case role == "director" && (t == sip.WS || t == sip.WSS):
		return sip.Hop{}, errors.New("the director has no WebSocket")
	case role == "director":
		at = netip.MustParseAddr("127.0.1.2")
	case role != "":
		return sip.Hop{}, fmt.Errorf("no %s here", role)
	}
	return sip.Hop{Transport: t, Addr: netip.AddrPortFrom(at, port+apartOffset), Host: "example.test"}, nil
}
