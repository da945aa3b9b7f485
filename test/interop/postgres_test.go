package interop

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fernamt/test/is"
)

// startPostgres starts Debian's PostgreSQL in a folder of its own and gives its DSN.
// The server refuses to run as root, so the user postgres runs it.
func startPostgres(t *testing.T) string {
	t.Helper()
	need(t, "postgres", "initdb")
	dir, port := t.TempDir(), ports(t, 1)
	as := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(which(name), args...)
		cmd.Dir = dir
		if os.Geteuid() != 0 {
			return cmd
		}
		u, err := user.Lookup("postgres")
		is.NoErr(t, err)
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return cmd
	}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		is.NoErr(t, err)
		uid, _ := strconv.Atoi(u.Uid)
		is.NoErr(t, os.Chown(dir, uid, -1))
		is.NoErr(t, os.Chmod(filepath.Dir(dir), 0o755))
	}
	data := filepath.Join(dir, "data")
	out, err := as("initdb", "-D", data, "-U", "fernamt", "-A", "trust", "--no-sync").CombinedOutput()
	is.NoErr(t, err, string(out))
	server := as("postgres", "-D", data, "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-k", dir, "-c", "shared_buffers=16MB")
	var said strings.Builder
	server.Stdout, server.Stderr = &said, &said
	is.NoErr(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT)
		_ = server.Wait()
	})
	until(t, 20*time.Second, "PostgreSQL", func() bool {
		return as("psql", "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-U", "fernamt", "-d", "postgres", "-c", "create database fernamt").Run() == nil
	})
	return fmt.Sprintf("postgres://fernamt@127.0.0.1:%d/fernamt", port)
}

// TestPostgres: the lab on PostgreSQL. A message for somebody who is not there
// outlives a restart, and so do the accounts.
func TestPostgres(t *testing.T) {
	dsn := startPostgres(t)
	dir := t.TempDir()
	writeSettings(t, dir, func(toml string) string { return setting(t, toml, "storage", "dsn", strconv.Quote(dsn)) })
	l := startLab(t, dir)
	out, code := l.command(t, "user", "list")
	is.Equal(t, code, 0, out)
	is.True(t, strings.Contains(out, "carol@example.test"), out)
	alice := openRaw(t, l.addr("sip"))
	answer := alice.as(t, l.account("alice"), 10*time.Second, ask{"MESSAGE", "sip:bob@" + l.Domain, "sip:bob@" + l.Domain, []string{"Content-Type: text/plain", "\r\nkept by PostgreSQL"}})
	is.Equal(t, status(answer), 202, answer)
	l.signal(syscall.SIGKILL)
	<-l.done
	_, err := os.Stat(filepath.Join(dir, "store.db"))
	is.True(t, os.IsNotExist(err), "there is an SQLite file beside PostgreSQL")

	l = startLab(t, dir).during(t)
	bob := openRaw(t, l.addr("sip"))
	bob.register(t, l.account("bob"), 300)
	m := bob.takeRequest(t, "MESSAGE", 10*time.Second)
	bob.send(t, reply(m, 200, "b"))
	is.True(t, strings.HasSuffix(m, "kept by PostgreSQL"), m)
}
