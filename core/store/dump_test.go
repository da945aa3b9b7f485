package store

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fernamt/test/is"
)

// filled puts rows of every type into an open store.
func filled(t *testing.T, db *DB) {
	t.Helper()
	is.NoErr(t, db.Write(t.Context(), func(tx *Tx) error {
		rows := [][]any{
			{int64(1), int64(7), int64(0), "Grüße, \"quoted\"\n\t", []byte{0, 1, 0xff}, nil, int64(math.MaxInt64), int64(-5)},
			{int64(2), int64(7), int64(1), "", []byte{}, []byte("sixteen octets!!"), int64(math.MinInt64), int64(0)},
		}
		columns := []string{"id", "account", "kind", "name", "hashes", "nt", "created", "used"}
		if err := tx.Insert("credential", columns, rows); err != nil {
			return err
		}
		var many [][]any
		for i := range 2345 {
			many = append(many, []any{fmt.Sprint("n", i), int64(i)})
		}
		return tx.Insert("number", []string{"name", "last"}, many)
	}))
}

// told gives all that a store holds as text.
func told(t *testing.T, db *DB) string {
	t.Helper()
	var out strings.Builder
	is.NoErr(t, db.Read(t.Context(), func(tx *Tx) error {
		for _, q := range []string{"select id, account, kind, name, hashes, nt, created, used from credential order by id",
			"select name, last, 0, '', '', '', 0, 0 from number order by last"} {
			r, err := tx.Query(q)
			if err != nil {
				return err
			}
			for r.Next() {
				v := make([]any, 8)
				into := []any{&v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]}
				if err := r.Scan(into...); err != nil {
					return err
				}
				fmt.Fprintf(&out, "%v\n", v)
			}
			if err := r.Err(); err != nil {
				return err
			}
		}
		return nil
	}))
	return out.String()
}

func TestBackupRestore(t *testing.T) {
	engines(t, func(t *testing.T, from Config) {
		db := opened(t, from)
		filled(t, db)
		want := told(t, db)
		file := filepath.Join(t.TempDir(), "b"+dumpSuffix)
		var last Progress
		is.NoErr(t, db.Backup(t.Context(), file, func(p Progress) { last = p }))
		is.Equal(t, [2]int64{last.Done, last.Total}, [2]int64{2347, 2347})
		is.Err(t, db.Backup(t.Context(), file, nil), "exists already")
		info, err := Inspect(file)
		is.NoErr(t, err)
		is.Equal(t, info.Rows, 2347)
		is.Equal(t, info.Engine, db.Engine())
		st, err := os.Stat(file)
		is.NoErr(t, err)
		is.Equal(t, st.Mode().Perm(), os.FileMode(0o600))
		// Into each engine.
		engines(t, func(t *testing.T, to Config) {
			last = Progress{}
			is.NoErr(t, Restore(t.Context(), to, file, Restoring{Progress: func(p Progress) { last = p }}))
			is.Equal(t, last.Done, 2347)
			copied, err := Open(t.Context(), to)
			is.NoErr(t, err)
			is.Equal(t, told(t, copied), want)
			err = Restore(t.Context(), to, file, Restoring{Replace: true})
			is.True(t, errors.Is(err, ErrInUse), fmt.Sprint("while it is open: ", err))
			is.NoErr(t, copied.Write(t.Context(), func(tx *Tx) error { return put(tx, "later", 1) }))
			is.NoErr(t, copied.Close())
			is.Err(t, Restore(t.Context(), to, file, Restoring{}), "holds data")
			is.NoErr(t, Restore(t.Context(), to, file, Restoring{Replace: true}))
			copied = opened(t, to)
			is.Equal(t, told(t, copied), want)
			is.NoErr(t, copied.Write(t.Context(), func(tx *Tx) error { return put(tx, "again", 1) }))
		})
	})
}

func TestBackupDamaged(t *testing.T) {
	db := opened(t, Config{Dir: t.TempDir()})
	filled(t, db)
	dir := t.TempDir()
	file := filepath.Join(dir, "b"+dumpSuffix)
	is.NoErr(t, db.Backup(t.Context(), file, nil))
	good, err := os.ReadFile(file)
	is.NoErr(t, err)
	to := Config{Dir: t.TempDir()}
	step := max(1, len(good)/150)
	for at := 10; at < len(good); at += step { // the first octets of gzip say nothing about the content
		bad := append([]byte{}, good...)
		bad[at] ^= 0x10
		if !bytes.Equal(unzipped(bad), unzipped(good)) { // a few bits of gzip are padding: what they hold is no damage
			is.NoErr(t, os.WriteFile(file, bad, 0o600))
			is.True(t, Restore(t.Context(), to, file, Restoring{}) != nil, fmt.Sprint("octet ", at, " flipped"))
		}
		is.NoErr(t, os.WriteFile(file, good[:at], 0o600))
		is.True(t, Restore(t.Context(), to, file, Restoring{}) != nil, fmt.Sprint("cut at ", at))
	}
	left, err := os.ReadDir(to.Dir)
	is.NoErr(t, err)
	is.Equal(t, len(left), 0, "something was touched")
	is.NoErr(t, os.WriteFile(file, good, 0o600))
	is.NoErr(t, Restore(t.Context(), to, file, Restoring{}))
}

// unzipped is what a dump's text is, nil when gzip itself sees damage.
func unzipped(b []byte) []byte {
	zip, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	text, err := io.ReadAll(zip)
	if err != nil {
		return nil
	}
	return text
}

func TestNewerSchema(t *testing.T) {
	engines(t, func(t *testing.T, cfg Config) {
		db, err := Open(t.Context(), cfg)
		is.NoErr(t, err)
		mine := db.Schema()
		is.NoErr(t, db.Write(t.Context(), func(tx *Tx) error {
			yes := "1"
			if db.Engine() == "postgres" {
				yes = "true"
			}
			_, err := tx.Exec("insert into goose_db_version (version_id, is_applied) values (?, "+yes+")", mine+3)
			return err
		}))
		is.NoErr(t, db.Close())
		_, err = Open(t.Context(), cfg)
		is.Err(t, err, fmt.Sprintf("the data has schema %d and this fernamt knows up to %d", mine+3, mine))
	})
}

func TestOlderSchema(t *testing.T) {
	engines(t, func(t *testing.T, cfg Config) {
		// A store as the first migration alone leaves it.
		old := &DB{cfg: cfg}
		is.NoErr(t, old.prepare(t.Context()))
		sc, err := newSchema(old.eng)
		is.NoErr(t, err)
		_, err = sc.goal.UpTo(t.Context(), 1)
		is.NoErr(t, err)
		s, err := old.eng.connect(t.Context(), forLoading)
		is.NoErr(t, err)
		_, err = s.exec(t.Context(), "insert into number (name, last) values ('kept', 5)", nil)
		is.NoErr(t, err)
		s.close()
		is.NoErr(t, old.release())
		if cfg.DSN == "" {
			_, err = Open(t.Context(), Config{Dir: cfg.Dir, ReadOnly: true})
			is.Err(t, err, "has schema 1 and this fernamt needs")
		}
		dir := filepath.Join(cfg.Dir, "backups")
		is.NoErr(t, os.MkdirAll(dir, 0o700))
		for i := range keepBackups + 1 {
			is.NoErr(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("auto-2020010%dT000000.000-schema-1-to-2%s", i, dumpSuffix)), nil, 0o600))
		}
		db, err := Open(t.Context(), cfg)
		is.NoErr(t, err)
		n, err := get(db, "kept")
		is.NoErr(t, err)
		is.Equal(t, n, 5)
		want := told(t, db)
		is.NoErr(t, db.Close())
		list, err := filepath.Glob(filepath.Join(dir, "*"))
		is.NoErr(t, err)
		is.Equal(t, len(list), keepBackups)
		newest := list[len(list)-1]
		info, err := Inspect(newest)
		is.NoErr(t, err)
		is.Equal(t, info.Schema, 1)
		// The backup of the old schema goes into a store of today's.
		to := Config{Dir: t.TempDir()}
		is.NoErr(t, Restore(t.Context(), to, newest, Restoring{}))
		is.Equal(t, told(t, opened(t, to)), want)
	})
}

// FuzzDump reads backups that nobody wrote.
func FuzzDump(f *testing.F) {
	f.Add([]byte("{\"fernamt\":\"dump\",\"format\":1,\"schema\":1,\"rows\":1}\n{\"table\":\"number\",\"columns\":[\"name\",\"last\"]}\n" +
		"[\"a\",1]\n{\"end\":true,\"rows\":1,\"sha256\":\"x\"}\n"))
	f.Add([]byte("[{\"b\":\"AA==\"},{\"f\":1.5},null,\"x\",-9223372036854775808]\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		var packed bytes.Buffer
		zip := gzip.NewWriter(&packed)
		_, _ = zip.Write(text)
		_ = zip.Close()
		path := filepath.Join(dir, "x")
		is.NoErr(t, os.WriteFile(path, packed.Bytes(), 0o600))
		if _, err := Inspect(path); err == nil && !bytes.Contains(text, []byte(`"sha256"`)) {
			t.Error("taken for a whole backup")
		}
		for line := range bytes.Lines(text) {
			_, _ = readRow(line, 2)
		}
	})
}
