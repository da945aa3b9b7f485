package interop

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	builtDir  string
	buildOnce sync.Once
	buildErr  error
)

// built builds the program once for all tests.
func built(t testing.TB) string {
	t.Helper()
	buildOnce.Do(func() {
		builtDir, buildErr = os.MkdirTemp("", "fernamt-interop")
		if buildErr != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", filepath.Join(builtDir, "fernamt"), "fernamt").CombinedOutput()
		if err != nil {
			buildErr = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return filepath.Join(builtDir, "fernamt")
}

// labInfo is lab.json.
type labInfo struct {
	Domain  string
	Users   []struct{ Address, Password string }
	CA      string
	Web     string
	Metrics string
	Ports   map[string]int
	Doors   map[string]string
}

// lab is a running server.
type lab struct {
	*program
	labInfo
	dir    string
	offset int
	logs   string // file that takes standard error
}

var nextOffset atomic.Int32

// offset gives the next distance of a server's fixed ports from their numbers.
// Two servers' doors must not meet: 37 is no difference of two of our numbers.
func offset() int { return 10000 + 37*int(nextOffset.Add(1)) }

// startLab starts `fernamt lab` in a folder, new or filled, and waits for ready.
func startLab(t testing.TB, dir string, args ...string) *lab {
	t.Helper()
	l := tryLab(t, dir, args...)
	waitReady(t, l)
	return l
}

func waitReady(t testing.TB, l *lab) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if strings.Contains("\n"+l.output(), "\nready\n") {
			break
		}
		if l.ended() || time.Now().After(end) {
			l.kill()
			t.Fatalf("the server is not ready; it said:\n%s\n%s", l.output(), l.log())
		}
	}
	b, err := os.ReadFile(filepath.Join(l.dir, "lab.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &l.labInfo); err != nil {
		t.Fatal(err)
	}
	for _, u := range l.Users {
		secret(u.Password)
	}
}

// tryLab starts `fernamt lab` and does not wait.
func tryLab(t testing.TB, dir string, args ...string) *lab {
	t.Helper()
	return serve(t, dir, offset(), append([]string{"lab", "--data", dir}, args...)...)
}

// serve starts the server with any command and keeps what it logs.
func serve(t testing.TB, dir string, off int, args ...string) *lab {
	t.Helper()
	l := &lab{dir: dir, offset: off}
	folder := os.Getenv("FERNAMT_TEST_DIR")
	if folder == "" {
		folder = dir
	}
	name := strings.ReplaceAll(t.Name(), "/", "_")
	f, err := os.CreateTemp(folder, "server-"+name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	l.logs = f.Name()
	l.program = start(t, launch{errors: f}, built(t), append(args, "--port-offset", fmt.Sprint(off))...)
	f.Close()
	return l
}

func (l *lab) log() string {
	b, _ := os.ReadFile(l.logs)
	return tail(string(b))
}

// during ends the server with the test and shows its log when the test failed.
func (l *lab) during(t *testing.T) *lab {
	t.Cleanup(func() {
		l.stop()
		if t.Failed() {
			t.Logf("the server logged:\n%s", l.log())
		}
	})
	return l
}

func (l *lab) addr(port string) string {
	n, ok := l.Ports[port]
	if !ok {
		panic(fmt.Sprintf("lab.json has no port %q: %v", port, l.Ports))
	}
	return fmt.Sprintf("127.0.0.1:%d", n)
}

func (l *lab) password(user string) string {
	for _, u := range l.Users {
		if u.Address == user+"@"+l.Domain {
			return u.Password
		}
	}
	panic(fmt.Sprintf("lab.json has no user %s", user))
}

// phone gives a softphone's data for one of the lab's users.
func (l *lab) phone(user, transport, codec string, tone int) phone {
	port := "sip"
	if transport == "tls" {
		port = "sips"
	}
	return phone{address: user + "@" + l.Domain, password: l.password(user), server: l.addr(port),
		transport: transport, ca: l.CA, codec: codec, tone: tone}
}

// command runs bin/fernamt against this lab's data.
func (l *lab) command(t testing.TB, args ...string) (string, int) {
	t.Helper()
	return run(t, 60*time.Second, built(t), append(args, "--data", l.dir)...)
}

// alive fails when the server has ended or does not say that it is well.
func (l *lab) alive(t testing.TB) {
	t.Helper()
	url := strings.TrimSuffix(l.Metrics, "/metrics") + "/healthz"
	r, err := http.Get(url)
	if err != nil {
		t.Fatalf("health: %v\n%s", err, l.log())
	}
	defer r.Body.Close()
	if b, _ := io.ReadAll(r.Body); r.StatusCode != 200 {
		t.Fatalf("health: %s %s", r.Status, b)
	}
}

var (
	sharedLab  *lab
	sharedOnce sync.Once
)

// shared gives the one server that tests use which leave it as they found it.
func shared(t testing.TB) *lab {
	t.Helper()
	built(t)
	sharedOnce.Do(func() {
		dir, err := os.MkdirTemp("", "fernamt-lab")
		if err != nil {
			t.Fatal(err)
		}
		writeSettings(t, dir, func(toml string) string { return toml })
		sharedLab = startLab(t, dir)
	})
	if sharedLab == nil || sharedLab.ended() {
		t.Fatal("the shared server does not run")
	}
	return sharedLab
}

func stopShared() {
	if sharedLab != nil {
		sharedLab.stop()
		os.RemoveAll(sharedLab.dir)
	}
}
