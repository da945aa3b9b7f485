package interop

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is a process that the test started, in a process group of its own, and ends.
type program struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{} // closed when the process has ended
	err  error         // how it ended; read after done

	mu   sync.Mutex
	said strings.Builder // standard output and error
}

// Write takes what the process says.
func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.Write(b)
}

func (p *program) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// launch is how to start a program.
type launch struct {
	dir    string
	env    []string  // added to ours
	errors io.Writer // standard error; nil: together with standard output
	in     bool      // wants a standard input that stays open
}

func start(t testing.TB, l launch, name string, args ...string) *program {
	t.Helper()
	p := &program{name: filepath.Base(name), done: make(chan struct{})}
	p.cmd = exec.Command(name, args...)
	p.cmd.Dir, p.cmd.Env = l.dir, append(os.Environ(), l.env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if l.errors != nil {
		p.cmd.Stderr = l.errors
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if l.in {
		in, err := p.cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		p.in = in
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// stop asks the process to end, and insists after five seconds.
func (p *program) stop() {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.kill()
	}
}

func (p *program) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends the process and those that it started (its own process group).
func (p *program) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

func (p *program) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// exit waits for the end and gives the exit status; -1 for a signal.
func (p *program) exit(t testing.TB, d time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(d):
		t.Fatalf("%s has not ended after %v; it said:\n%s", p.name, d, tail(p.output()))
		return -1
	}
}

func tail(s string) string {
	if len(s) > 3000 {
		return "…" + s[len(s)-3000:]
	}
	return s
}

// run starts a program, waits for its end and gives output and exit status.
func run(t testing.TB, d time.Duration, name string, args ...string) (string, int) {
	t.Helper()
	p := start(t, launch{}, name, args...)
	status := p.exit(t, d)
	return p.output(), status
}
