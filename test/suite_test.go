package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fernamt/core/host"
	"fernamt/core/listen"
	"fernamt/role/frontend"
	"fernamt/role/manage"
	"fernamt/test/is"
	"fernamt/test/play"
)

// kinds are the roles of a lab: those of roles.go, which cannot be imported.
func kinds() []host.Kind {
	return []host.Kind{
		{Name: "frontend", New: frontend.New},
		{Name: "manage", New: manage.New},
	}
}

// suite is a whole lab in this process, on a network of its own.
type suite struct {
	t    *testing.T
	dir  string
	net  listen.Network
	at   netip.Addr
	logs safeBuffer

	stop func()
	done chan int
}

// safeBuffer is a log that is written and read at once.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// newSuite starts a lab. Its folder has a short name: the control socket's must fit.
func newSuite(t *testing.T) *suite {
	t.Helper()
	dir, err := os.MkdirTemp("", "suite")
	is.NoErr(t, err)
	s := &suite{t: t, dir: dir, net: listen.NewSim().Host(), at: netip.MustParseAddr("127.0.0.1")}
	t.Cleanup(func() {
		s.end()
		os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.logs.String())
		}
	})
	is.NoErr(t, s.start(t.Context()))
	return s
}

func (s *suite) program(out io.Writer) host.Program {
	return host.Program{Kinds: kinds(), Version: "test", In: strings.NewReader(""), Out: out, Err: &s.logs, Network: s.net}
}

// start runs the lab and waits for the line ready.
func (s *suite) start(ctx context.Context) error {
	run, stop := context.WithCancel(context.Background())
	out := &safeBuffer{}
	s.done = make(chan int, 1)
	s.stop = stop
	go func() { s.done <- s.program(out).Run(run, []string{"--data", s.dir, "lab"}) }()
	for !strings.Contains("\n"+out.String(), "\nready") {
		select {
		case code := <-s.done:
			return fmt.Errorf("the lab ended with %d: %s%s", code, out.String(), s.logs.String())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

func (s *suite) end() {
	if s.stop == nil {
		return
	}
	s.stop()
	s.stop = nil
	select {
	case code := <-s.done:
		is.Equal(s.t, code, 0, "the lab's exit status")
	case <-time.After(10 * time.Second):
		s.t.Error("the lab did not end within 10 s")
	}
}

// command performs an operator's command, as `fernamt` does.
func (s *suite) command(ctx context.Context, args []string) (string, error) {
	var out, wrong safeBuffer
	p := s.program(&out)
	p.Err = &wrong
	if code := p.Run(ctx, append([]string{"--data", s.dir}, args...)); code != 0 {
		return out.String(), errors.New(strings.TrimSpace(wrong.String()))
	}
	return out.String(), nil
}

func (s *suite) stage() play.Stage {
	n, err := play.ReadNote(filepath.Join(s.dir, "lab.json"))
	is.NoErr(s.t, err)
	st, err := n.Stage(s.net, s.at)
	is.NoErr(s.t, err)
	st.Command = s.command
	st.Restart = func(ctx context.Context) error {
		s.end()
		return s.start(ctx)
	}
	return st
}
