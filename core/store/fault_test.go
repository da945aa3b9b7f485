package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fernamt/test/is"
)

func TestMeanings(t *testing.T) {
	cause := errors.New("cause")
	for code, want := range map[int]error{
		13: ErrFull, 10 | 3<<8: ErrBroken, 10 | 4<<8: ErrBroken, 11: ErrBroken, 26: ErrBroken, 8: ErrReadOnly,
		1555: ErrExists, 2067: ErrExists, 19 | 5<<8: cause, 1: cause, 5: cause,
	} {
		err := sqliteMeaning(code, cause)
		is.True(t, errors.Is(err, want) && errors.Is(err, cause), fmt.Sprint(code, err))
	}
	for code, want := range map[string]error{
		"53100": ErrFull, "58030": ErrBroken, "XX001": ErrBroken, "57P01": ErrUnavailable, "08006": ErrUnavailable,
		"28P01": ErrLogin, "28000": ErrLogin, "23505": ErrExists, "25006": ErrReadOnly, "42601": cause,
	} {
		err := postgresMeaning(code, cause)
		is.True(t, errors.Is(err, want) && errors.Is(err, cause), fmt.Sprint(code, err))
	}
}

// TestOneLine: what goes wrong is one line, though the driver tells of each try.
func TestOneLine(t *testing.T) {
	err := (*postgresEngine)(nil).classify(fmt.Errorf("failed to connect to x:\n\t127.0.0.1:1: %w\n\t127.0.0.1:1: %w", syscall.ECONNREFUSED, syscall.ECONNREFUSED))
	is.True(t, errors.Is(err, ErrUnavailable) && errors.Is(err, syscall.ECONNREFUSED), err.Error())
	is.Equal(t, err.Error(), "database server cannot be reached (failed to connect to x: 127.0.0.1:1: connection refused)")
}

// TestDiskFull fills a small file system, or where mounting one is not allowed the number of
// pages that SQLite may use.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	small := syscall.Mount("none", dir, "tmpfs", 0, "size=3m") == nil
	if small {
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	}
	db := opened(t, Config{Dir: dir})
	limit := func(pages int) {
		is.NoErr(t, db.Write(t.Context(), func(tx *Tx) error {
			r, err := tx.Query("pragma max_page_count = " + strconv.Itoa(pages))
			return errors.Join(err, r.Close())
		}))
	}
	ballast := filepath.Join(dir, "ballast")
	if small {
		is.NoErr(t, os.WriteFile(ballast, make([]byte, 1<<20), 0o600))
	} else {
		limit(200)
	}
	text := strings.Repeat("x", 4000)
	var kept []string
	var err error
	for i := 0; err == nil && i < 5000; i++ {
		name := fmt.Sprint("n", i, text)
		if err = db.Write(t.Context(), func(tx *Tx) error { return put(tx, name, 1) }); err == nil {
			kept = append(kept, name)
		}
	}
	is.True(t, errors.Is(err, ErrFull), fmt.Sprint("tmpfs: ", small, " error: ", err))
	is.True(t, len(kept) > 20, "it was full too early")
	err = db.Write(t.Context(), func(tx *Tx) error { return put(tx, "still"+strings.Repeat(text, 9), 1) })
	is.True(t, errors.Is(err, ErrFull), fmt.Sprint("still full: ", err))
	is.NoErr(t, db.Broken())
	for _, name := range kept {
		_, err := get(db, name)
		is.NoErr(t, err, "reading goes on, and what was acknowledged is there")
	}
	if small {
		is.NoErr(t, os.Remove(ballast))
	} else {
		limit(100000)
	}
	is.NoErr(t, db.Write(t.Context(), func(tx *Tx) error { return put(tx, "back", 1) }), "with space again")
	problems, err := db.Check(t.Context())
	is.NoErr(t, err)
	is.Equal(t, len(problems), 0)
}

// TestWriteError has the kernel refuse to let files grow, which SQLite sees as a failing disk.
func TestWriteError(t *testing.T) {
	out := inChild(t, "broken", t.TempDir())
	is.True(t, strings.HasSuffix(out, "broken as it should be\n"), out)
}

// TestKill kills a writing process many times: what it said was stored is there, once.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for round := range 12 {
		cmd := childOf(t, "write", dir)
		cmd.Env = append(cmd.Env, "STORE_TEST_ROUND="+strconv.Itoa(round))
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		is.NoErr(t, err)
		cmd.Stdout = out
		is.NoErr(t, cmd.Start())
		for range 1000 { // until it is well under way, then at some other moment each time
			if st, err := out.Stat(); err == nil && st.Size() > 100 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Duration(round*5) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		b, err := os.ReadFile(out.Name())
		is.NoErr(t, err)
		is.NoErr(t, out.Close())
		lines := strings.Split(string(b), "\n")
		for _, l := range lines[:len(lines)-1] { // the last may be cut off
			acknowledged[l] = true
		}
	}
	is.True(t, len(acknowledged) > 100, fmt.Sprint("only ", len(acknowledged), " were written"))
	db := opened(t, Config{Dir: dir})
	for name := range acknowledged {
		_, err := get(db, name)
		is.NoErr(t, err, name, "was acknowledged")
	}
	problems, err := db.Check(t.Context())
	is.NoErr(t, err)
	is.Equal(t, len(problems), 0)
}

func TestDamage(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(t.Context(), Config{Dir: dir})
	is.NoErr(t, err)
	filled(t, db)
	is.NoErr(t, db.Close())
	file := filepath.Join(dir, sqliteFile)
	b, err := os.ReadFile(file)
	is.NoErr(t, err)
	for i := 3 * 4096; i < len(b); i += 512 {
		b[i] ^= 0xff
	}
	is.NoErr(t, os.WriteFile(file, b, 0o600))
	db = opened(t, Config{Dir: dir})
	problems, err := db.Check(t.Context())
	is.NoErr(t, err)
	is.True(t, len(problems) > 0, "damage not found")
}

// TestServerRestart takes the database server away under writers.
func TestServerRestart(t *testing.T) {
	cfg := Config{DSN: server.DSN(t), Dial: dial, Dir: t.TempDir()}
	db := opened(t, cfg)
	for range 2 * readerCount { // so that reading connections are there, to be lost
		_, err := get(db, "x")
		is.True(t, errors.Is(err, ErrNone))
	}
	var mu sync.Mutex
	kept := map[string]bool{}
	lost := 0
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprint(w, "-", i)
				err := db.Write(context.Background(), func(tx *Tx) error { return put(tx, name, 1) })
				mu.Lock()
				switch {
				case err == nil:
					kept[name] = true
				case errors.Is(err, ErrUnavailable):
					lost++
				default:
					t.Error(err)
				}
				mu.Unlock()
				if err != nil {
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	server.Restart(t)
	time.Sleep(500 * time.Millisecond)
	stop()
	wg.Wait()
	is.NoErr(t, db.Write(t.Context(), func(tx *Tx) error { return put(tx, "after", 1) }))
	is.True(t, lost > 0, "nobody noticed the restart")
	for name := range kept {
		_, err := get(db, name)
		is.NoErr(t, err, name, "was acknowledged")
	}
}

func childOf(t *testing.T, what, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "STORE_TEST_CHILD="+what, "STORE_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

func inChild(t *testing.T, what, dir string) string {
	t.Helper()
	out, err := childOf(t, what, dir).Output()
	is.NoErr(t, err, string(out))
	return string(out)
}

// child is what this test binary does when started by childOf.
func child(what, dir string) int {
	ctx := context.Background()
	db, err := Open(ctx, Config{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if what == "broken" {
		return breakIt(ctx, db)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprint(os.Getenv("STORE_TEST_ROUND"), "-", w, "-", i)
				if err := db.Write(ctx, func(tx *Tx) error { return put(tx, name, 1) }); err != nil {
					return
				}
				fmt.Println(name)
			}
		})
	}
	wg.Wait()
	return 1
}

func breakIt(ctx context.Context, db *DB) int {
	text := strings.Repeat("x", 4000)
	limit := syscall.Rlimit{Cur: 512 << 10, Max: math.MaxUint64}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fmt.Println(err)
		return 1
	}
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		err = db.Write(ctx, func(tx *Tx) error { return put(tx, fmt.Sprint(i, text), 1) })
	}
	if !errors.Is(err, ErrBroken) || db.Broken() == nil {
		fmt.Println("expected a broken store:", err)
		return 1
	}
	limit.Cur = math.MaxUint64
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fmt.Println(err)
		return 1
	}
	err = db.Write(ctx, func(tx *Tx) error { return put(tx, "a", 1) })
	if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "restart") {
		fmt.Println("it went on as if nothing had happened:", err)
		return 1
	}
	if _, err := get(db, "0"+text); err != nil {
		fmt.Println("not readable any more:", err)
		return 1
	}
	fmt.Println("broken as it should be")
	return 0
}
