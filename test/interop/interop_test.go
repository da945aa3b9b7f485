// Package interop drives other people's phones and servers against the real
// program: bin/fernamt is built, started as a process on loopback with ports of
// its own, and ended by its process id. A test whose other program is not
// installed is left out by name; with CI=true it fails.
package interop

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fernamt/test/is"
)

// absent collects what was left out, for the closing word.
type absent struct {
	mu    sync.Mutex
	tests map[string][]string // program → tests
}

var leftOut = &absent{tests: map[string][]string{}}

// need leaves the test out when a program is not installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if which(p) == "" {
			leaveOut(t, p)
		}
	}
}

// leaveOut skips a test for want of something; with CI=true it fails.
func leaveOut(t *testing.T, what string) {
	t.Helper()
	leftOut.mu.Lock()
	leftOut.tests[what] = append(leftOut.tests[what], t.Name())
	leftOut.mu.Unlock()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not here", what)
	}
	t.Skipf("%s is not here", what)
}

// which finds a program, also where only root looks.
func which(name string) string {
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	for _, pattern := range []string{"/usr/sbin/" + name, "/usr/lib/postgresql/*/bin/" + name} {
		if m, _ := filepath.Glob(pattern); len(m) > 0 {
			return m[len(m)-1]
		}
	}
	return ""
}

func TestMain(m *testing.M) {
	code := m.Run()
	stopShared()
	report()
	if builtDir != "" {
		os.RemoveAll(builtDir)
	}
	os.Exit(code)
}

// report says plainly what was left out. `go test ./...` swallows what a passing
// package prints, so the words go to its own standard error.
func report() {
	if len(leftOut.tests) == 0 {
		return
	}
	var names []string
	for p, tests := range leftOut.tests {
		names = append(names, fmt.Sprintf("  %s is not here: %s", p, strings.Join(tests, " ")))
	}
	sort.Strings(names)
	text := fmt.Sprintf("interop: left out (make test as root installs them):\n%s\n", strings.Join(names, "\n"))
	if !testing.Verbose() {
		if parent, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/2", os.Getppid()), os.O_WRONLY, 0); err == nil {
			io.WriteString(parent, text)
			parent.Close()
			return
		}
	}
	fmt.Print(text)
}

// secret notes words that may stand in no output and no log of ours.
func secret(words ...string) { is.Secret(words...) }

var nextPort atomic.Int32

// ports gives the first of n port numbers that nobody uses, UDP and TCP, below
// the kernel's own range.
func ports(t *testing.T, n int) int {
	t.Helper()
	for range 500 {
		first := 29100 + int(nextPort.Add(int32(n)))%3500
		if allFree(first, n) {
			return first
		}
	}
	t.Fatal("no free ports")
	return 0
}

func allFree(first, n int) bool {
	for p := first; p < first+n; p++ {
		u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			return false
		}
		u.Close()
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

// until waits for ok, at most d.
func until(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited %v in vain for %s", d, what)
}
