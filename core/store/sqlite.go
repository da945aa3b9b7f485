package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
)

const sqliteFile = "store.db"

type sqliteEngine struct {
	write, read *sql.DB
}

// newSQLite opens the database file; the folder's lock is held unless it is for a tool.
func newSQLite(path string, tool bool) (*sqliteEngine, error) {
	if tool {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("no store there yet: %w", err)
		}
	} else {
		// The file holds password hashes: it is made before SQLite would make it readable.
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("make store: %w", err)
		}
		if err := f.Close(); err != nil {
			return nil, fmt.Errorf("make store: %w", err)
		}
		if err := belong(filepath.Dir(path), path); err != nil {
			return nil, err
		}
	}
	w, err := sql.Open("sqlite", sqliteDSN(path, false))
	if err != nil {
		return nil, err
	}
	r, err := sql.Open("sqlite", sqliteDSN(path, true))
	if err != nil {
		return nil, err
	}
	return &sqliteEngine{write: w, read: r}, nil
}

func sqliteDSN(path string, reader bool) string {
	q := url.Values{}
	q.Add("_pragma", "busy_timeout(10000)")
	q.Add("_pragma", "synchronous(FULL)")
	q.Add("_pragma", "temp_store(MEMORY)")
	q.Add("_pragma", "journal_size_limit(67108864)")
	if reader {
		q.Add("_pragma", "query_only(1)")
		q.Add("_pragma", "cache_size(-8192)")
	} else {
		q.Add("_pragma", "journal_mode(WAL)")
		q.Add("_pragma", "cache_size(-65536)")
		// 16 MiB between checkpoints: four times fewer syncs of the main file.
		q.Add("_pragma", "wal_autocheckpoint(4096)")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

func (e *sqliteEngine) connect(ctx context.Context, m mode) (*session, error) {
	pool := e.read
	begin := "begin"
	if m == forWriting || m == forLoading {
		pool, begin = e.write, "begin immediate"
	}
	c, err := pool.Conn(ctx)
	if err != nil {
		return nil, e.classify(err)
	}
	s := &session{c: c, eng: e, stmts: map[string]*sql.Stmt{}}
	s.begin = func(ctx context.Context) error {
		_, err := s.exec(context.WithoutCancel(ctx), begin, nil)
		return err
	}
	s.mark = func(ctx context.Context, first bool) error {
		if !first {
			if _, err := s.exec(ctx, "release w", nil); err != nil {
				return err
			}
		}
		_, err := s.exec(ctx, "savepoint w", nil)
		return err
	}
	return s, nil
}

func (e *sqliteEngine) close() error {
	return errors.Join(e.read.Close(), e.write.Close())
}

// SQLite's result codes, https://sqlite.org/rescode.html.
const (
	sqliteIOErr      = 10
	sqliteCorrupt    = 11
	sqliteFull       = 13
	sqliteReadOnly   = 8
	sqliteConstraint = 19
	sqliteNotADB     = 26
	uniqueKey        = 2067
	uniquePrimary    = 1555
	uniqueRow        = 2579
)

func (e *sqliteEngine) classify(err error) error {
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return err
	}
	return sqliteMeaning(se.Code(), err)
}

func sqliteMeaning(code int, err error) error {
	switch code & 0xff {
	case sqliteFull:
		return fmt.Errorf("%w (%w)", ErrFull, err)
	case sqliteIOErr, sqliteCorrupt, sqliteNotADB:
		return fmt.Errorf("%w (%w)", ErrBroken, err)
	case sqliteReadOnly:
		return fmt.Errorf("%w (%w)", ErrReadOnly, err)
	case sqliteConstraint:
		if code == uniqueKey || code == uniquePrimary || code == uniqueRow {
			return fmt.Errorf("%w (%w)", ErrExists, err)
		}
	}
	return err
}

func (e *sqliteEngine) tables(ctx context.Context, s *session) ([]table, error) {
	rows, err := s.query(ctx, `select m.name, c.name from sqlite_master m, pragma_table_info(m.name) c
		where m.type = 'table' and m.name not like 'sqlite_%' and m.name <> 'goose_db_version'
		order by m.name, c.cid`, nil)
	if err != nil {
		return nil, err
	}
	return readTables(s, rows)
}

func readTables(s *session, rows *sql.Rows) ([]table, error) {
	defer rows.Close()
	var list []table
	for rows.Next() {
		var name, column string
		if err := rows.Scan(&name, &column); err != nil {
			return nil, s.fail(err)
		}
		if n := len(list); n == 0 || list[n-1].name != name {
			list = append(list, table{name: name})
		}
		t := &list[len(list)-1]
		t.columns = append(t.columns, column)
	}
	return list, s.fail(rows.Err())
}
