// Package postgres starts a PostgreSQL server for tests, from Debian's package and with the
// disk synced, so that what is proved on it holds.
package postgres

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is one PostgreSQL for all tests of a package. The zero value starts at first use;
// TestMain must call Stop.
type Server struct {
	once sync.Once
	err  error
	dir  string
	port int
	cmd  *exec.Cmd
	mu   sync.Mutex
	made int
}

// DSN makes an empty database and gives its connection string. Without the package on this
// machine the test is skipped, or fails when CI=true.
func (s *Server) DSN(t testing.TB) string {
	t.Helper()
	bin := find()
	if bin == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("PostgreSQL is not installed: apt-get install postgresql")
		}
		t.Skip("PostgreSQL is not installed (apt-get install postgresql): its half of the store's tests is left out")
	}
	s.once.Do(func() { s.err = s.start(bin) })
	if s.err != nil {
		t.Fatalf("start PostgreSQL: %v", s.err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	name := fmt.Sprintf("t%d", s.made)
	if out, err := s.tool(bin, "createdb", "-U", "postgres", name); err != nil {
		t.Fatalf("make database: %v\n%s", err, out)
	}
	return s.url(name)
}

func (s *Server) url(name string) string {
	return fmt.Sprintf("postgres://postgres:secret@127.0.0.1:%d/%s?sslmode=disable", s.port, name)
}

// Dial connects to the server; what the store is handed as its dialler.
func Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

// Stop ends the server and removes its files.
func (s *Server) Stop() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Signal(syscall.SIGQUIT) // immediate: the data is thrown away
		_ = s.cmd.Wait()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// Restart stops the server as if it had crashed and starts it again.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	_ = s.cmd.Wait()
	if err := s.run(find()); err != nil {
		t.Fatalf("restart PostgreSQL: %v", err)
	}
}

// find gives the folder of the newest version's programs.
func find() string {
	list, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(list) == 0 {
		return ""
	}
	slices.SortFunc(list, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(list[len(list)-1])
}

func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

// as has cmd run as the user postgres when we are root, whom PostgreSQL refuses.
func as(cmd *exec.Cmd, dir string) error {
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	// With us gone the server goes too, however we went.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(dir, int(uid), int(gid))
}

func (s *Server) start(bin string) (err error) {
	if s.dir, err = os.MkdirTemp("", "fernamt-postgres-"); err != nil {
		return err
	}
	secret := filepath.Join(s.dir, "secret")
	if err := os.WriteFile(secret, []byte("secret\n"), 0o644); err != nil {
		return err
	}
	init := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(s.dir, "data"), "-U", "postgres", "-E", "UTF8",
		"--auth=scram-sha-256", "--pwfile="+secret, "--data-checksums")
	if err := as(init, s.dir); err != nil {
		return err
	}
	if out, err := init.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return err
	}
	return s.run(bin)
}

func (s *Server) run(bin string) error {
	s.cmd = exec.Command(filepath.Join(bin, "postgres"), "-D", filepath.Join(s.dir, "data"), "-k", s.dir,
		"-c", "listen_addresses=127.0.0.1", "-p", strconv.Itoa(s.port), "-c", "fsync=on", "-c", "max_connections=60")
	var log strings.Builder
	s.cmd.Stderr = &log
	if err := as(s.cmd, s.dir); err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	var err error
	for range 300 {
		if _, err = s.tool(bin, "pg_isready"); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("it does not answer: %w\n%s", err, log.String())
}

// tool runs one of PostgreSQL's own client programs.
func (s *Server) tool(bin, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(filepath.Join(bin, name), append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(s.port)}, args...)...)
	cmd.Env = []string{"PGPASSWORD=secret", "PATH=/usr/bin:/bin"}
	return cmd.CombinedOutput()
}
