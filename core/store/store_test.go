package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"fernamt/test/is"
	"fernamt/test/postgres"
)

var server postgres.Server

var dial = postgres.Dial

func TestMain(m *testing.M) {
	if what := os.Getenv("STORE_TEST_CHILD"); what != "" {
		os.Exit(child(what, os.Getenv("STORE_TEST_DIR")))
	}
	code := m.Run()
	server.Stop()
	os.Exit(code)
}

// engines runs f on an empty store of each engine.
func engines(t *testing.T, f func(t *testing.T, cfg Config)) {
	t.Run("sqlite", func(t *testing.T) { f(t, Config{Dir: t.TempDir()}) })
	t.Run("postgres", func(t *testing.T) {
		f(t, Config{Dir: t.TempDir(), DSN: server.DSN(t), Dial: postgres.Dial})
	})
}

func opened(t testing.TB, cfg Config) *DB {
	t.Helper()
	db, err := Open(t.Context(), cfg)
	is.NoErr(t, err)
	t.Cleanup(func() { is.NoErr(t, db.Close()) })
	return db
}

func put(tx *Tx, name string, n int64) error {
	_, err := tx.Exec("insert into number (name, last) values (?, ?)", name, n)
	return err
}

func get(db *DB, name string) (n int64, err error) {
	err = db.Read(context.Background(), func(tx *Tx) error {
		return tx.QueryRow("select last from number where name = ?", name).Scan(&n)
	})
	return n, err
}

func TestWriteRead(t *testing.T) {
	engines(t, func(t *testing.T, cfg Config) {
		db := opened(t, cfg)
		ctx := t.Context()
		is.NoErr(t, db.Write(ctx, func(tx *Tx) error { return put(tx, "a?", 7) }))
		n, err := get(db, "a?")
		is.NoErr(t, err)
		is.Equal(t, n, 7)
		_, err = get(db, "b")
		is.True(t, errors.Is(err, ErrNone), "a row that is not there")
		err = db.Write(ctx, func(tx *Tx) error { return put(tx, "a?", 8) })
		is.True(t, errors.Is(err, ErrExists), fmt.Sprint("second row with the same key: ", err))
		mine := errors.New("changed my mind")
		err = db.Write(ctx, func(tx *Tx) error { return errors.Join(put(tx, "c", 1), mine) })
		is.True(t, errors.Is(err, mine))
		_, err = get(db, "c")
		is.True(t, errors.Is(err, ErrNone), "a change that failed left something behind")
		err = db.Read(ctx, func(tx *Tx) error { return put(tx, "d", 1) })
		is.True(t, errors.Is(err, ErrReadOnly), "a reader wrote")
		err = db.Write(ctx, func(tx *Tx) error { panic("oh") })
		is.Err(t, err, "panicked: oh")
		is.NoErr(t, db.Write(ctx, func(tx *Tx) error { return put(tx, "e", 1) }), "after a panic")
	})
}

func TestRows(t *testing.T) {
	engines(t, func(t *testing.T, cfg Config) {
		db := opened(t, cfg)
		var rows [][]any
		for i := range 173 {
			rows = append(rows, []any{fmt.Sprintf("n%03d", i), int64(i)})
		}
		is.NoErr(t, db.Write(t.Context(), func(tx *Tx) error { return tx.Insert("number", []string{"name", "last"}, rows) }))
		var sum, count int64
		is.NoErr(t, db.Read(t.Context(), func(tx *Tx) error {
			r, err := tx.Query("select last, name = 'it''s ?', null from number where last >= ? order by name", 3)
			if err != nil {
				return err
			}
			for r.Next() {
				var n int64
				var no bool
				var nothing []byte
				if err := r.Scan(&n, &no, &nothing); err != nil {
					return err
				}
				is.True(t, !no && nothing == nil)
				sum, count = sum+n, count+1
			}
			return r.Err()
		}))
		is.Equal(t, count, 170)
		is.Equal(t, sum, 172*173/2-3)
	})
}

func TestNeighbours(t *testing.T) {
	engines(t, func(t *testing.T, cfg Config) {
		db := opened(t, cfg)
		// While the writer is held, the others queue up and go into one commit.
		hold, held := make(chan struct{}), make(chan struct{})
		go db.Write(t.Context(), func(*Tx) error { close(held); <-hold; return nil })
		<-held
		gone, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var order atomic.Int64
		result := make([]error, 40)
		for i := range result {
			wg.Go(func() {
				ctx := t.Context()
				if i == 20 {
					ctx = gone
				}
				result[i] = db.Write(ctx, func(tx *Tx) error {
					if i == 20 {
						t.Error("a change ran whose context had ended")
					}
					if i%10 == 9 {
						return errors.New("without having sent anything")
					}
					if i%10 != 5 || i > 20 {
						if err := put(tx, fmt.Sprint("n", i), int64(i)); err != nil {
							return err
						}
					}
					tx.After(func() { order.Add(1) })
					switch {
					case i%10 == 5:
						_, err := tx.Exec("insert into nowhere (a) values (?)", i)
						return err
					case i%10 == 3:
						return put(tx, fmt.Sprint("n", i), 1) // same key: the database refuses
					case i%10 == 7:
						panic("neighbour")
					}
					return nil
				})
			})
		}
		for len(db.queue) < len(result) {
		}
		cancel()
		close(hold)
		wg.Wait()
		for i, err := range result {
			n, missing := get(db, fmt.Sprint("n", i))
			bad := i%10 == 3 || i%10 == 5 || i%10 == 7 || i%10 == 9 || i == 20
			is.Equal(t, err != nil, bad, fmt.Sprint(i, " ", err))
			is.Equal(t, missing != nil, bad)
			if !bad {
				is.Equal(t, n, int64(i))
			}
		}
		is.Equal(t, order.Load(), 23)
		is.Equal(t, db.Stats(), Stats{Writes: 24, Commits: 2})
	})
}

func TestNumbers(t *testing.T) {
	engines(t, func(t *testing.T, cfg Config) {
		db := opened(t, cfg)
		take := func(n int64) (first int64) {
			is.NoErr(t, db.Write(t.Context(), func(tx *Tx) (err error) {
				first, err = tx.Number("x", n)
				return err
			}))
			return first
		}
		is.Equal(t, take(1), 1)
		is.Equal(t, take(100), 2)
		is.Equal(t, take(1), 102)
		woken := make(chan bool, 9)
		stop := db.OnSignal(func() { woken <- true })
		var a, b int64
		is.NoErr(t, db.Write(t.Context(), func(tx *Tx) (err error) {
			tx.Signal()
			a, err = tx.Next("event")
			b, _ = tx.Next("event")
			return err
		}))
		is.Equal(t, []int64{a, b}, []int64{1, 2})
		is.Equal(t, len(woken), 1)
		stop()
		is.NoErr(t, db.Write(t.Context(), func(tx *Tx) error { tx.Signal(); return nil }))
		is.Equal(t, len(woken), 1)
	})
}

func TestClose(t *testing.T) {
	engines(t, func(t *testing.T, cfg Config) {
		db, err := Open(t.Context(), cfg)
		is.NoErr(t, err)
		var wg sync.WaitGroup
		var kept, refused atomic.Int64
		for i := range 200 {
			wg.Go(func() {
				switch err := db.Write(context.Background(), func(tx *Tx) error { return put(tx, fmt.Sprint(i), 1) }); {
				case err == nil:
					kept.Add(1)
				case errors.Is(err, ErrClosed):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		is.NoErr(t, db.Close())
		wg.Wait()
		is.True(t, errors.Is(db.Write(t.Context(), func(*Tx) error { return nil }), ErrClosed))
		is.True(t, errors.Is(db.Read(t.Context(), func(*Tx) error { return nil }), ErrClosed))
		is.NoErr(t, db.Close(), "a second time")
		db = opened(t, cfg)
		var n int64
		is.NoErr(t, db.Read(t.Context(), func(tx *Tx) error { return tx.QueryRow("select count(*) from number").Scan(&n) }))
		is.Equal(t, n, kept.Load(), "what was acknowledged is what is there")
	})
}

func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	db := opened(t, Config{Dir: dir})
	_, err := Open(t.Context(), Config{Dir: dir})
	is.True(t, errors.Is(err, ErrInUse))
	is.Err(t, err, fmt.Sprintf("open in process %d", os.Getpid()))
	is.NoErr(t, db.Write(t.Context(), func(tx *Tx) error { return put(tx, "a", 1) }))
	tool := opened(t, Config{Dir: dir, ReadOnly: true})
	n, err := get(tool, "a")
	is.NoErr(t, err)
	is.Equal(t, n, 1)
	is.True(t, errors.Is(tool.Write(t.Context(), func(*Tx) error { return nil }), ErrReadOnly))
	problems, err := tool.Check(t.Context())
	is.NoErr(t, err)
	is.Equal(t, len(problems), 0)
	_, err = Open(t.Context(), Config{Dir: t.TempDir(), ReadOnly: true})
	is.Err(t, err, "no store there yet")
	info, err := os.Stat(filepath.Join(dir, sqliteFile))
	is.NoErr(t, err)
	is.Equal(t, info.Mode().Perm(), os.FileMode(0o600))
}

func TestOpenRefuses(t *testing.T) {
	_, err := Open(t.Context(), Config{})
	is.Err(t, err, "neither a data folder nor a database server")
	_, err = Open(t.Context(), Config{DSN: "postgres://u:hidden@127.0.0.1:1/x"})
	is.Err(t, err, "no way to dial")
	for _, dsn := range []string{"postgres://u:hidden@127.0.0.1:1/x", "postgres://u:hidden@127.0.0.1:bad/x"} {
		_, err = Open(t.Context(), Config{DSN: dsn, Dial: postgres.Dial})
		is.True(t, err != nil && !strings.Contains(err.Error(), "hidden"), "the password is in the error")
	}
	dir := t.TempDir()
	is.NoErr(t, os.WriteFile(filepath.Join(dir, sqliteFile), []byte(strings.Repeat("no database ", 500)), 0o600))
	_, err = Open(t.Context(), Config{Dir: dir})
	is.True(t, errors.Is(err, ErrBroken), fmt.Sprint(err))
}

func TestPlaceholders(t *testing.T) {
	for _, c := range [][2]string{
		{"select 1", "select 1"},
		{"a = ? and b = ?", "a = $1 and b = $2"},
		{"a = '?' and b = '''?' or c = ?", "a = '?' and b = '''?' or c = $1"},
	} {
		is.Equal(t, numbered(c[0]), c[1])
	}
}
