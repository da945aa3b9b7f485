package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fernamt/core/admin"
	"fernamt/core/config"
	"fernamt/core/listen"
	"fernamt/test/is"
	"fernamt/wire/ports"
)

// echo is a role with one door that says hello, for tests of what runs roles.
type echo struct {
	Greeting string        `doc:"What it says"`
	Patience time.Duration `doc:"How long it waits"`

	door string
	port int
	runs *atomic.Int32
	run  func(ctx context.Context, n int32) error // done before serving; nil: nothing
	sick error                                    // ends it before its door is open
}

func (e *echo) Ports() []ports.Port {
	return []ports.Port{{Name: e.door, From: e.port, Transport: ports.TCP, Protocol: "http", Purpose: "Hello", Zweck: "Hallo"}}
}

func (e *echo) Commands() []admin.Command {
	return []admin.Command{{Name: strings.ReplaceAll(e.door, "/", " "), Args: "[WORD]", Help: "Says its greeting", Rights: admin.Look,
		Run: func(_ context.Context, c *admin.Call) error {
			c.Printf("%s %s run %d", e.Greeting, c.Arg(0), e.runs.Load())
			return nil
		}}}
}

func (e *echo) Check() error {
	if e.Greeting == "" {
		return &config.KeyError{Key: "greeting", Err: errors.New("must not be empty")}
	}
	return nil
}

func (e *echo) Run(ctx context.Context, h *Host) error {
	n := e.runs.Add(1)
	if e.sick != nil {
		return e.sick
	}
	d, err := h.Listen(e.door)
	if err != nil {
		return err
	}
	if e.run != nil {
		if err := e.run(ctx, n); err != nil {
			return err
		}
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, e.Greeting) })}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(d.Listener()); ctx.Err() == nil {
		return err
	}
	return nil
}

// rig is a machine on a simulated network with a binary of test roles.
type rig struct {
	t     *testing.T
	net   *listen.SimHost
	dir   string
	kinds []Kind
}

func newRig(t *testing.T, roles ...*echo) *rig {
	r := &rig{t: t, net: listen.NewSim().Host(netip.MustParseAddr("10.0.0.1")), dir: t.TempDir()}
	is.NoErr(t, os.Chmod(r.dir, 0o700))
	for i, e := range roles {
		if e.door == "" {
			e.door = fmt.Sprintf("echo%d/door", i)
		}
		if e.port == 0 {
			e.port = 7000 + i
		}
		e.runs = new(atomic.Int32)
		name, _, _ := strings.Cut(e.door, "/")
		r.kinds = append(r.kinds, Kind{name, func() Role {
			return &echo{Greeting: "hello", door: e.door, port: e.port, runs: e.runs, run: e.run, sick: e.sick}
		}})
	}
	return r
}

// output is a buffer that may be read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (r *rig) program(in string, out, errs io.Writer) Program {
	return Program{Kinds: r.kinds, Version: "test", In: strings.NewReader(in), Out: out, Err: errs, Network: r.net}
}

// do runs a command to its end.
func (r *rig) do(in, argv string) (status int, out, errs string) {
	var o, e output
	status = r.program(in, &o, &e).Run(r.t.Context(), append([]string{"--data", r.dir}, strings.Fields(argv)...))
	return status, o.String(), e.String()
}

// want runs a command and holds its status and a part of all that it said.
func (r *rig) want(status int, part, argv string) string {
	r.t.Helper()
	got, out, errs := r.do("", argv)
	is.Equal(r.t, got, status, argv+": "+out+errs)
	is.True(r.t, strings.Contains(out+errs, part), fmt.Sprintf("%s: %q not in:\n%s%s", argv, part, out, errs))
	return out
}

// started is a server that runs.
type started struct {
	out, errs output
	stop      context.CancelFunc
	done      chan int
}

// start runs a server and waits until it says that it is ready.
func (r *rig) start(argv string) *started {
	r.t.Helper()
	s := &started{done: make(chan int, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() {
		s.done <- r.program("", &s.out, &s.errs).Run(ctx, append([]string{"--data", r.dir}, strings.Fields(argv)...))
	}()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(s.out.String(), "ready\n"); time.Sleep(2 * time.Millisecond) {
		select {
		case status := <-s.done:
			r.t.Fatalf("ended with %d: %s%s", status, s.out.String(), s.errs.String())
		default:
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("not ready: %s", s.errs.String())
		}
	}
	r.t.Cleanup(func() { cancel() })
	return s
}

// end stops the server as SIGTERM does and gives its exit status.
func (s *started) end(t *testing.T) int {
	t.Helper()
	s.stop()
	select {
	case status := <-s.done:
		return status
	case <-time.After(10 * time.Second):
		t.Fatal("does not end")
	}
	return -1
}

// get asks an HTTP door of the simulated machine.
func (r *rig) get(addr, path string) (int, string) {
	r.t.Helper()
	c, err := r.net.Dial(r.t.Context(), netip.Addr{}, netip.MustParseAddrPort(addr))
	is.NoErr(r.t, err)
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
	b, err := io.ReadAll(c)
	is.NoErr(r.t, err)
	var status int
	_, err = fmt.Sscanf(string(b), "HTTP/1.1 %d", &status)
	is.NoErr(r.t, err)
	_, body, _ := strings.Cut(string(b), "\r\n\r\n")
	return status, body
}

// readNote reads lab.json.
func (r *rig) readNote() labNote {
	b, err := os.ReadFile(filepath.Join(r.dir, labFile))
	is.NoErr(r.t, err)
	var n labNote
	is.NoErr(r.t, json.Unmarshal(b, &n))
	return n
}

func TestLab(t *testing.T) {
	r := newRig(t, &echo{})
	s := r.start("lab --port-offset 100")
	n := r.readNote()
	is.Equal(t, n.Domain, "example.test")
	is.Equal(t, len(n.Users), 4)
	is.Equal(t, n.Users[0].Address, "alice@example.test")
	is.True(t, len(n.Users[0].Password) >= 12, "password too short")
	is.Equal(t, n.Ports["http"], 7100)
	is.Equal(t, n.Metrics, "http://127.0.0.1:9161/metrics")
	_, err := os.Stat(n.CA)
	is.NoErr(t, err)
	st, err := os.Stat(filepath.Join(r.dir, labFile))
	is.NoErr(t, err)
	is.Equal(t, st.Mode().Perm(), os.FileMode(0o600))
	st, err = os.Stat(filepath.Join(r.dir, controlSocket))
	is.NoErr(t, err)
	is.Equal(t, st.Mode().Perm(), os.FileMode(0o600))

	code, body := r.get("127.0.0.1:7100", "/")
	is.Equal(t, fmt.Sprint(code, body), "200hello")
	for path, part := range map[string]string{"/healthz": "ok", "/readyz": "ok", "/metrics": "fernamt_accounts 4"} {
		code, body := r.get("127.0.0.1:9161", path)
		is.True(t, code == 200 && strings.Contains(body, part), path+": "+body)
	}
	r.want(0, "alice@example.test  Alice Adler", "user list")
	r.want(0, "pid ", "status")
	r.want(0, "hello you run 1", "echo0 door you")
	r.want(1, "in use", "lab")
	r.want(1, "a server runs", "restore "+filepath.Join(r.dir, "x"))
	is.Equal(t, s.end(t), 0)
	is.Equal(t, strings.Count(s.out.String(), "ready\n"), 1)
	all := s.out.String() + s.errs.String()
	is.True(t, !strings.Contains(all, n.Users[0].Password), "password said aloud")

	r.want(1, "no server runs", "status")
	r.want(0, "dave@example.test", "user list dave") // on the store itself
	r.want(0, "eve@example.test is there", "user add eve@example.test --name Eve")
	again := r.start("lab")
	is.Equal(t, r.readNote().Users, n.Users)
	is.Equal(t, r.readNote().Ports["http"], 7000)
	r.want(0, "eve@example.test", "user list eve")
	r.want(0, "stopping", "stop")
	is.Equal(t, <-again.done, 0)
}

// TestLabLostNote: without lab.json nobody knows the password; the lab makes another.
func TestLabLostNote(t *testing.T) {
	r := newRig(t)
	r.start("lab").end(t)
	old := r.readNote().Users[0].Password
	is.NoErr(t, os.Remove(filepath.Join(r.dir, labFile)))
	s := r.start("lab")
	now := r.readNote().Users[0].Password
	is.True(t, now != old && now != "", "a new password")
	is.Equal(t, s.end(t), 0)
}

func TestQuickstart(t *testing.T) {
	r := newRig(t, &echo{})
	out := r.want(0, "_sipinternaltls._tcp.fern.example.", "quickstart fern.example --address 10.0.0.1")
	for _, part := range []string{"sip.fern.example.", "IN  A     10.0.0.1", "_sip._udp.fern.example.", "_sips._tcp.fern.example.",
		"NAPTR 10 50 \"s\" \"SIPS+D2T\"", "admin@fern.example", "fernamt start --data"} {
		is.True(t, strings.Contains(out, part), part+" not in\n"+out)
	}
	before, err := os.ReadFile(filepath.Join(r.dir, settingsFile))
	is.NoErr(t, err)
	r.want(1, "writes over nothing", "quickstart other.example --address 10.0.0.1")
	after, err := os.ReadFile(filepath.Join(r.dir, settingsFile))
	is.NoErr(t, err)
	is.Equal(t, after, before)
	for _, secret := range []string{"certs/ca.key", "certs/sip.fern.example.key"} {
		st, err := os.Stat(filepath.Join(r.dir, secret))
		is.NoErr(t, err)
		is.Equal(t, st.Mode().Perm(), os.FileMode(0o600), secret)
	}
	r.want(0, "is in order", "config check")
	s := r.start("start")
	code, _ := r.get("10.0.0.1:7000", "/")
	is.Equal(t, code, 200)
	r.want(0, "admin@fern.example", "user list")
	is.Equal(t, s.end(t), 0)
	r.want(2, "is not a name as in DNS", "quickstart bad..name")
	r.want(2, "DOMAIN is missing", "quickstart")
}
