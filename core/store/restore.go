package store

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// BackupInfo describes a backup file.
type BackupInfo struct {
	Schema int64 // version of the schema that the data has
	Engine string
	Made   time.Time
	Rows   int64
}

// Restoring says how to restore.
type Restoring struct {
	Replace  bool           // the store holds data and is to be replaced; what was there is kept beside
	Progress func(Progress) // called about every thousand rows; may be nil
}

// loadStep is how many rows are written by one call.
const loadStep = 500

// Inspect reads a backup to its end, checks its sum, and says what it is.
func Inspect(path string) (BackupInfo, error) {
	r, err := openDump(path)
	if err != nil {
		return BackupInfo{}, fmt.Errorf("backup %s: %w", path, err)
	}
	defer r.close()
	for {
		line, err := r.next()
		if err != nil {
			return BackupInfo{}, fmt.Errorf("backup %s: %w", path, err)
		}
		if line == nil {
			h := r.head
			return BackupInfo{h.Schema, h.Engine, h.Made, h.Rows}, nil
		}
	}
}

// Restore fills the store that cfg names from a backup, made by either engine and by this
// or an older version of the schema. The store must be empty or, with Replace, not open
// anywhere. The backup is checked to its end before anything is touched; when Restore
// fails, the store is as it was.
func Restore(ctx context.Context, cfg Config, path string, how Restoring) error {
	info, err := Inspect(path)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if cfg.ReadOnly {
		return fmt.Errorf("restore: %w", ErrReadOnly)
	}
	if cfg.DSN != "" {
		err = restorePostgres(ctx, cfg, path, info, how)
	} else {
		err = restoreSQLite(ctx, cfg, path, info, how)
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// restoreSQLite builds a new file beside the old one and puts it in its place.
func restoreSQLite(ctx context.Context, cfg Config, path string, info BackupInfo, how Restoring) (err error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlockDir(lock)) }()
	final := filepath.Join(cfg.Dir, sqliteFile)
	if err := settle(ctx, final, how.Replace); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(cfg.Dir, "restoring-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	made := filepath.Join(temp, sqliteFile)
	e, err := newSQLite(made, false)
	if err != nil {
		return err
	}
	err = fill(ctx, e, path, info, how)
	// Closing the last connection moves everything from the WAL into the file.
	if err = errors.Join(err, e.close()); err != nil {
		return err
	}
	if err := syncFile(made); err != nil {
		return err
	}
	if err := belong(cfg.Dir, made); err != nil {
		return err
	}
	if err := keepOld(final); err != nil {
		return err
	}
	if err := os.Rename(made, final); err != nil {
		return err
	}
	return syncDir(cfg.Dir)
}

// settle refuses a store that holds data unless it may be replaced, and folds its WAL in.
func settle(ctx context.Context, path string, replace bool) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	e, err := newSQLite(path, false)
	if err != nil {
		return err
	}
	rows, err := contents(ctx, e)
	if e := e.close(); err == nil {
		err = e
	}
	if replace {
		return nil // a damaged store is what a restore is for
	}
	if err == nil && rows > 0 {
		err = fmt.Errorf("the store holds data (%d rows): say --replace to have the backup in its place", rows)
	}
	return err
}

// contents counts the rows of all tables, migrations aside.
func contents(ctx context.Context, e engine) (int64, error) {
	s, err := e.connect(ctx, forReading)
	if err != nil {
		return 0, err
	}
	defer s.close()
	tables, err := e.tables(ctx, s)
	if err != nil {
		return 0, err
	}
	var total int64
	for _, t := range tables {
		var n int64
		if err := s.c.QueryRowContext(ctx, "select count(*) from "+t.name).Scan(&n); err != nil {
			return 0, s.fail(err)
		}
		total += n
	}
	return total, nil
}

// keepOld gives the old file a second name. It keeps its first until the new file takes it,
// so that there is a store at every moment. A WAL that could not be folded in goes with the
// old file: beside the new one it would be taken for the new one's.
func keepOld(path string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	old := path + ".replaced-" + time.Now().UTC().Format("20060102T150405.000")
	if err := os.Link(path, old); err != nil {
		return err
	}
	if err := os.Rename(path+"-wal", old+"-wal"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Remove(path + "-shm"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// fill brings an empty database to the backup's schema, loads the rows, and migrates on.
func fill(ctx context.Context, e engine, path string, info BackupInfo, how Restoring) error {
	sc, err := newSchema(e)
	if err != nil {
		return err
	}
	if info.Schema > sc.newest() {
		return fmt.Errorf("the backup has schema %d and this fernamt knows up to %d: use the newer fernamt",
			info.Schema, sc.newest())
	}
	if _, err := sc.goal.UpTo(ctx, info.Schema); err != nil {
		return fmt.Errorf("make schema %d: %w", info.Schema, err)
	}
	s, err := e.connect(ctx, forLoading)
	if err != nil {
		return err
	}
	defer s.close()
	if err := load(ctx, s, path, how.Progress); err != nil {
		return err
	}
	if info.Schema < sc.newest() {
		if _, err := sc.goal.Up(ctx); err != nil {
			return fmt.Errorf("migrate schema from %d: %w", info.Schema, err)
		}
	}
	return nil
}

// load copies the rows of a backup into the tables, in one transaction.
func load(ctx context.Context, s *session, path string, progress func(Progress)) error {
	r, err := openDump(path)
	if err != nil {
		return err
	}
	defer r.close()
	if _, err := s.c.ExecContext(ctx, "begin"); err != nil {
		return s.fail(err)
	}
	tx := &Tx{ctx: ctx, s: s, batch: &batch{}}
	at := Progress{Total: r.head.Rows}
	var rows [][]any
	var into dumpLine
	flush := func() error {
		err := tx.Insert(into.Table, into.Columns, rows)
		at.Table, at.Done = into.Table, at.Done+int64(len(rows))
		rows = rows[:0]
		if progress != nil && err == nil {
			progress(at)
		}
		return err
	}
	for {
		line, err := r.next()
		if err != nil {
			return err
		}
		if line != nil && line[0] == '[' {
			row, err := readRow(line, len(into.Columns))
			if err != nil {
				return fmt.Errorf("table %s: %w", into.Table, err)
			}
			if rows = append(rows, row); len(rows) < loadStep {
				continue
			}
		}
		if len(rows) > 0 {
			if err := flush(); err != nil {
				return fmt.Errorf("table %s: %w", into.Table, err)
			}
		}
		switch {
		case line == nil:
			_, err := s.c.ExecContext(ctx, "commit")
			return s.fail(err)
		case line[0] == '{':
			into = dumpLine{}
			if err := json.Unmarshal(line, &into); err != nil {
				return err
			}
			if err := knownTable(ctx, s, into); err != nil {
				return err
			}
		}
	}
}

// knownTable keeps a forged backup from slipping SQL in by a table's or a column's name.
func knownTable(ctx context.Context, s *session, want dumpLine) error {
	list, err := s.eng.tables(ctx, s)
	if err != nil {
		return err
	}
	for _, t := range list {
		if t.name != want.Table {
			continue
		}
		have := strings.Join(t.columns, " ") + " "
		for _, c := range want.Columns {
			if c == "" || !strings.Contains(have, c+" ") || strings.ContainsAny(c, " ,()") {
				return fmt.Errorf("table %s has no column %q", t.name, c)
			}
		}
		return nil
	}
	return fmt.Errorf("no table is called %q in this schema", want.Table)
}

func readRow(line []byte, columns int) ([]any, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var row []any
	if err := d.Decode(&row); err != nil {
		return nil, err
	}
	if len(row) != columns {
		return nil, fmt.Errorf("a row has %d values for %d columns", len(row), columns)
	}
	for i, v := range row {
		var err error
		switch v := v.(type) {
		case nil, string:
		case json.Number:
			row[i], err = v.Int64()
		case map[string]any:
			row[i], err = readMarked(v)
		default:
			err = fmt.Errorf("a value of type %T", v)
		}
		if err != nil {
			return nil, err
		}
	}
	return row, nil
}

func readMarked(v map[string]any) (any, error) {
	if s, ok := v["b"].(string); ok {
		return base64.StdEncoding.DecodeString(s)
	}
	if n, ok := v["f"].(json.Number); ok {
		return n.Float64()
	}
	return nil, errors.New("a value that is neither a blob nor a fraction")
}
