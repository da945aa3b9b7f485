package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fernamt/core/config"
	"fernamt/core/ident"
	"fernamt/test/is"
	"fernamt/wire/hep"
	"fernamt/wire/sip"
)

// settle writes the lab's settings with one change, without starting it.
func (r *rig) settle(old, new string) {
	r.t.Helper()
	p := r.program("", &output{}, &output{})
	p.data = r.dir
	is.NoErr(r.t, p.labSettings(r.dir))
	name := filepath.Join(r.dir, settingsFile)
	b, err := os.ReadFile(name)
	is.NoErr(r.t, err)
	is.True(r.t, strings.Contains(string(b), old), "settings lack "+old)
	is.NoErr(r.t, os.WriteFile(name, []byte(strings.Replace(string(b), old, new, 1)), 0o600))
}

// TestBadStart: what is wrong is said in one line, with its status, and nothing is half started.
func TestBadStart(t *testing.T) {
	for _, c := range []struct {
		old, new string
		status   int
		want     string
	}{
		{`domains =`, `domain =`, 2, "fernamt.toml:4: domain: unknown key; did you mean domains?"},
		{`roles = ["echo0"]`, `roles = ["ehco0"]`, 2, "host[0].roles: there is no role ehco0; did you mean echo0?"},
		{`roles = ["echo0"]`, "roles = [\"echo0\"]\naddresses = {\"echo0/dor\" = [\"127.0.0.1\"]}", 2, "this host has no door echo0/dor; did you mean echo0/door?"},
		{"[edge]", "[echo0]\ngreeting = \"\"\n[edge]", 2, "echo0.greeting: must not be empty"},
		{"[edge]", "[echo0]\npatience = 3\n[edge]", 2, "echo0.patience: must be a duration with its unit"},
		{"[edge]", "[storage]\ndsn = \"postgres://u@127.0.0.1/x\"\npassword = \"file:nowhere\"\n[edge]", 2, "storage.password"},
		{"[edge]", "[[certificate]]\ncert = \"nowhere.pem\"\nkey = \"file:nowhere.key\"\n[edge]", 1, "nowhere.pem"},
	} {
		r := newRig(t, &echo{})
		r.settle(c.old, c.new)
		status, out, errs := r.do("", "start")
		is.Equal(t, status, c.status, c.want)
		is.True(t, strings.Contains(errs, c.want), fmt.Sprintf("%q not in %q", c.want, errs))
		is.Equal(t, out, "")
		_, err := os.Stat(filepath.Join(r.dir, "store.db"))
		is.True(t, errors.Is(err, os.ErrNotExist), c.want+": the store was opened")
	}
	newRig(t).want(2, "quickstart DOMAIN", "start")
	newRig(t).want(2, "--port-offset x: must be from 0 to 60000", "start --port-offset x")
}

// TestTakenPort: the error names door and number, and the store is closed again.
func TestTakenPort(t *testing.T) {
	r := newRig(t, &echo{})
	l, err := r.net.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:7000"))
	is.NoErr(t, err)
	r.want(1, "echo0/door", "lab")
	r.want(1, "taken", "check")
	is.NoErr(t, l.Close())
	is.Equal(t, r.start("lab").end(t), 0)
}

// TestClash: two roles want one socket; both are named and nothing is opened.
func TestClash(t *testing.T) {
	r := newRig(t, &echo{}, &echo{door: "other/door", port: 7000})
	status, _, errs := r.do("", "lab")
	is.Equal(t, status, 1)
	for _, part := range []string{"echo0/door", "other/door", "7000"} {
		is.True(t, strings.Contains(errs, part), part+" not in "+errs)
	}
	r.want(1, "clash", "check")
}

// TestMoves: a port under 1024 without the right moves and says so.
func TestMoves(t *testing.T) {
	r := newRig(t, &echo{port: 443})
	r.net.Unprivileged()
	s := r.start("lab")
	is.True(t, strings.Contains(s.out.String(), "door echo0/door moved from 443 to 10443"), s.out.String())
	is.Equal(t, r.readNote().Ports["http"], 10443)
	r.want(1, "setcap", "check --port-offset 1")
	is.Equal(t, s.end(t), 0)
}

// TestSupervise: a role that breaks later is started again, with its door; the others go on.
func TestSupervise(t *testing.T) {
	again := make(chan struct{})
	breaks := &echo{run: func(ctx context.Context, n int32) error {
		switch n {
		case 1:
			<-again
			panic("broke")
		case 2:
			return errors.New("failed")
		}
		return nil
	}}
	r := newRig(t, breaks, &echo{})
	s := r.start("lab")
	close(again)
	for deadline := time.Now().Add(10 * time.Second); breaks.runs.Load() < 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not started again")
		}
		code, _ := r.get("127.0.0.1:7001", "/")
		is.Equal(t, code, 200, "the other role")
	}
	code, _ := r.get("127.0.0.1:7000", "/")
	is.Equal(t, code, 200, "the role that broke")
	r.want(0, "hello  run 3", "echo0 door")
	out := r.want(0, "role_panics", "dump metrics")
	is.True(t, strings.Contains(strings.Join(strings.Fields(out), " "), "fernamt_role_panics_total role=echo0 1"), out)
	is.True(t, strings.Contains(s.errs.String(), "role broke") && strings.Contains(s.errs.String(), "role=echo0"), s.errs.String())
	is.Equal(t, s.end(t), 0)
}

// TestFirstRun: a role that cannot start ends the start.
func TestFirstRun(t *testing.T) {
	r := newRig(t, &echo{}, &echo{sick: errors.New("no licence for this")})
	status, out, errs := r.do("", "lab")
	is.Equal(t, status, 1, out+errs)
	is.True(t, strings.Contains(errs, "fernamt: lab: echo1: no licence for this"), errs)
}

// TestStubborn: a role that does not end when told holds nobody up for ever.
func TestStubborn(t *testing.T) {
	r := newRig(t, &echo{run: func(ctx context.Context, _ int32) error {
		<-ctx.Done()
		time.Sleep(30 * time.Second)
		return nil
	}})
	s := r.start("lab")
	began := time.Now()
	is.Equal(t, s.end(t), 0)
	is.True(t, time.Since(began) < 5*time.Second, "took longer than 5 s")
	is.True(t, strings.Contains(s.errs.String(), "a role does not end"), s.errs.String())
}

func TestExport(t *testing.T) {
	r := newRig(t, &echo{}, &echo{door: "edge/door", port: 7443})
	for name, text := range map[string]string{"pg.password": "PGSECRET", "hep.password": "HEPSECRET"} {
		is.NoErr(t, os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600))
	}
	is.NoErr(t, os.WriteFile(filepath.Join(r.dir, settingsFile), []byte(`domains = ["example.test"]
[storage]
dsn = "postgres://u@10.0.0.9:5432/x"
password = "file:pg.password"
[hep]
target = "10.0.0.8:9060"
password = "file:hep.password"
[echo0]
greeting = "GREETING"
[[host]]
name = "a.example.test"
roles = ["echo0"]
internal = ["10.0.0.1"]
addresses = {"echo0/door" = ["10.0.0.1"]}
[[host]]
name = "e.example.test"
roles = ["edge"]
internal = ["10.0.0.2"]
external = ["192.0.2.1"]
`), 0o600))
	to := filepath.Join(t.TempDir(), "e")
	r.want(0, "fernamt start --data e --host e.example.test", "config export e.example.test --output "+to)
	r.want(1, "is there already", "config export e.example.test --output "+to)
	r.want(2, "no host f.example.test; known: a.example.test, e.example.test", "config export f.example.test")
	var files []string
	var all strings.Builder
	is.NoErr(t, filepath.Walk(to, func(p string, st os.FileInfo, err error) error {
		if err == nil && !st.IsDir() {
			b, _ := os.ReadFile(p)
			all.Write(b)
			files = append(files, strings.TrimPrefix(p, to+"/"))
		}
		return err
	}))
	is.Equal(t, files, []string{"certs/ca.pem", "certs/e.example.test.key", "certs/e.example.test.pem", "fernamt.toml", "hep.password"})
	for _, secret := range []string{"PGSECRET", "postgres", "GREETING", "echo0/door"} {
		is.True(t, !strings.Contains(all.String(), secret), secret+" was exported")
	}
	s, err := config.Load(filepath.Join(to, settingsFile), map[string]any{"echo0": &echo{Greeting: "x"}, "edge": &echo{Greeting: "x"}})
	is.NoErr(t, err)
	is.Equal(t, len(s.Hosts), 2)
	is.Equal(t, s.Hosts[0].Internal[0].String(), "10.0.0.1")

	edge := newRig(t)
	edge.kinds, edge.dir = r.kinds, to
	edge.net = r.net
	edge.want(1, "e.example.test", "check --host e.example.test") // not its address: ports cannot be opened here
	_, err = ident.OpenKeys(keysConfig(s, &s.Hosts[1], to, nil))
	is.NoErr(t, err)
}

// TestHEP: what passes the hub leaves through the declared door.
func TestHEP(t *testing.T) {
	r := newRig(t)
	pc, err := r.net.ListenPacket(t.Context(), netip.MustParseAddrPort("127.0.0.1:9060"))
	is.NoErr(t, err)
	defer pc.Close()
	r.settle("[edge]", "[hep]\ntarget = \"127.0.0.1:9060\"\n[edge]")
	var hub *Host
	p := r.program("", &output{}, &output{})
	p.data = r.dir
	call := p.call()
	o, err := p.options(call)
	is.NoErr(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan struct{})
	o.ready = func(_ context.Context, s *server) error { hub = s.host; close(ready); return nil }
	done := make(chan error, 1)
	go func() { done <- p.serve(ctx, o) }()
	<-ready
	for !hub.Trace.Active() {
		time.Sleep(time.Millisecond)
	}
	hub.Trace.SIP(true, sip.Flow{Remote: netip.MustParseAddrPort("192.0.2.1:5060")}, []byte("OPTIONS sip:x SIP/2.0\r\nCall-ID: 7\r\n\r\n"))
	b := make([]byte, 2000)
	n, _, err := pc.ReadFrom(b)
	is.NoErr(t, err)
	got, err := hep.Parse(b[:n])
	is.NoErr(t, err)
	is.Equal(t, got.Correlation, "7")
	is.Equal(t, got.Node, "lab.example.test")
	cancel()
	is.NoErr(t, <-done)
}
