package store

import (
	"context"
	"fmt"
)

// Problem is something wrong with the storage, and what mends it.
type Problem struct {
	What string
	Mend string // the one thing to do
}

// Check looks for damage and for settings of the database server that break promises. It
// reads everything and may take a while; an error says that it could not look.
func (db *DB) Check(ctx context.Context) ([]Problem, error) {
	s, err := db.eng.connect(ctx, forReading)
	if err != nil {
		return nil, fmt.Errorf("check storage: %w", err)
	}
	defer s.close()
	var list []Problem
	if err := db.Broken(); err != nil {
		list = append(list, Problem{err.Error(), "look at the disk and the kernel log, then restart fernamt"})
	}
	if _, ok := db.eng.(*postgresEngine); ok {
		list, err = checkPostgres(ctx, db.eng, s, list)
	} else {
		list, err = checkSQLite(ctx, s, list)
	}
	if err != nil {
		return list, fmt.Errorf("check storage: %w", err)
	}
	return list, nil
}

const mendRestore = "stop fernamt and restore the last good backup: fernamt restore FILE"

func checkSQLite(ctx context.Context, s *session, list []Problem) ([]Problem, error) {
	rows, err := s.query(ctx, "pragma quick_check(20)", nil)
	if err != nil {
		if isAny(err, ErrBroken) {
			return append(list, Problem{err.Error(), mendRestore}), nil
		}
		return list, err
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return list, s.fail(err)
		}
		if line != "ok" {
			list = append(list, Problem{"the database file is damaged: " + line, mendRestore})
		}
	}
	if err := s.fail(rows.Err()); err != nil {
		if !isAny(err, ErrBroken) {
			return list, err
		}
		list = append(list, Problem{err.Error(), mendRestore})
	}
	return list, nil
}

func checkPostgres(ctx context.Context, e engine, s *session, list []Problem) ([]Problem, error) {
	for _, p := range []struct{ name, want, what string }{
		{"fsync", "on", "a power failure can lose everything"},
		{"full_page_writes", "on", "a power failure can damage the database"},
	} {
		var v string
		if err := s.c.QueryRowContext(ctx, "select current_setting($1)", p.name).Scan(&v); err != nil {
			return list, s.fail(err)
		}
		if v != p.want {
			list = append(list, Problem{
				fmt.Sprintf("the database server runs with %s = %s: %s", p.name, v, p.what),
				fmt.Sprintf("set %s = %s in postgresql.conf and restart the database server", p.name, p.want)})
		}
	}
	tables, err := e.tables(ctx, s)
	if err != nil {
		return list, err
	}
	for _, t := range tables {
		// Reads every row, so that the server comes upon damaged pages.
		var n int64
		err := s.fail(s.c.QueryRowContext(ctx, "select coalesce(sum(length(x::text)), 0) from "+t.name+" x").Scan(&n))
		switch {
		case isAny(err, ErrBroken):
			list = append(list, Problem{"table " + t.name + " is damaged: " + err.Error(), mendRestore})
		case err != nil:
			return list, err
		}
	}
	return list, nil
}
