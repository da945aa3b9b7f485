package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// Tx is one change, or one look at the store. It is valid until the function it was handed
// to returns, and is used by one goroutine.
type Tx struct {
	ctx    context.Context
	s      *session
	batch  *batch // nil when reading
	after  []func()
	signal bool
	open   []*Rows
}

// batch is what the changes of one commit share.
type batch struct {
	next map[string]int64
}

// Context ends when the work should.
func (t *Tx) Context() context.Context { return t.ctx }

// Exec runs a statement with ? for each argument and gives the number of rows it touched.
func (t *Tx) Exec(query string, args ...any) (int64, error) {
	if t.batch == nil {
		return 0, ErrReadOnly
	}
	return t.s.exec(t.ctx, query, args)
}

// Query runs a statement that gives rows. A change may use INSERT … RETURNING.
func (t *Tx) Query(query string, args ...any) (*Rows, error) {
	r, err := t.s.query(t.ctx, query, args)
	if err != nil {
		return nil, err
	}
	rows := &Rows{r: r, s: t.s}
	t.open = append(t.open, rows)
	return rows, nil
}

// QueryRow runs a statement that gives one row. Scan tells its error, ErrNone without a row.
func (t *Tx) QueryRow(query string, args ...any) Row {
	r, err := t.s.query(t.ctx, query, args)
	return Row{r: r, s: t.s, err: err}
}

// After has f run when the change is durable, before its Write returns. Such functions run
// one at a time in the order of the changes, on the writer's goroutine, and must be quick.
func (t *Tx) After(f func()) { t.after = append(t.after, f) }

// Signal wakes those who asked by [DB.OnSignal], after the commit.
func (t *Tx) Signal() { t.signal = true }

// Number takes n numbers from the counter of that name and gives the first. The first ever
// is 1. A number is never given twice, whatever is deleted.
func (t *Tx) Number(name string, n int64) (int64, error) {
	var last int64
	err := t.QueryRow(`insert into number (name, last) values (?, ?)
		on conflict (name) do update set last = number.last + excluded.last returning last`, name, n).Scan(&last)
	if err != nil {
		return 0, fmt.Errorf("number %s: %w", name, err)
	}
	return last - n + 1, nil
}

// Next gives an id above every id that the table holds: the order of ids is the order of
// commits. The table's newest row must never be deleted, or its id would come again.
func (t *Tx) Next(table string) (int64, error) {
	if t.batch == nil {
		return 0, ErrReadOnly
	}
	id, ok := t.batch.next[table]
	if !ok {
		if err := t.QueryRow("select coalesce(max(id), 0) from " + table).Scan(&id); err != nil {
			return 0, fmt.Errorf("next %s: %w", table, err)
		}
	}
	id++
	t.batch.next[table] = id
	return id, nil
}

// Insert writes many rows, several in one statement.
func (t *Tx) Insert(table string, columns []string, rows [][]any) error {
	head := "insert into " + table + " (" + strings.Join(columns, ", ") + ") values "
	one := "(" + strings.Repeat("?, ", len(columns)-1) + "?)"
	// Two sizes of statement only, so that both stay prepared.
	const many = 50
	wide := head + strings.Repeat(one+", ", many-1) + one
	args := make([]any, 0, many*len(columns))
	for len(rows) > 0 {
		n, query := 1, head+one
		if len(rows) >= many {
			n, query = many, wide
		}
		args = args[:0]
		for _, row := range rows[:n] {
			args = append(args, row...)
		}
		if _, err := t.Exec(query, args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// finish closes what the function left open.
func (t *Tx) finish() {
	for _, r := range t.open {
		_ = r.Close()
	}
	t.open = nil
}

// Rows is the answer to a query.
type Rows struct {
	r *sql.Rows
	s *session
}

// Next goes to the next row and says whether there is one.
func (r *Rows) Next() bool { return r.r.Next() }

// Scan copies the row's columns.
func (r *Rows) Scan(dest ...any) error { return r.s.fail(r.r.Scan(dest...)) }

// Err tells what ended the rows early.
func (r *Rows) Err() error { return r.s.fail(r.r.Err()) }

// Close ends the query; it may be called more than once.
func (r *Rows) Close() error { return r.s.fail(r.r.Close()) }

// Row is the answer to a query for one row.
type Row struct {
	r   *sql.Rows
	s   *session
	err error
}

// Scan copies the row's columns, once.
func (r Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.r.Close()
	if !r.r.Next() {
		if err := r.r.Err(); err != nil {
			return r.s.fail(err)
		}
		return ErrNone
	}
	if err := r.r.Scan(dest...); err != nil {
		return r.s.fail(err)
	}
	return r.s.fail(r.r.Close())
}

// Read runs f on one unchanging snapshot of the store.
func (db *DB) Read(ctx context.Context, f func(tx *Tx) error) error {
	s, err := db.reader(ctx)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	defer func() { db.giveBack(s) }()
	m := forReading
	if db.cfg.ReadOnly {
		m = forTools
	}
	if s, err = db.begin(ctx, s, m); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	tx := &Tx{ctx: ctx, s: s}
	// A panic of f goes on to its caller, but not with the snapshot still held.
	defer func() {
		tx.finish()
		// Reading changed nothing; a rollback that fails means a lost connection.
		if _, err := s.c.ExecContext(context.WithoutCancel(ctx), "rollback"); err != nil {
			s.bad = true
		}
	}()
	return f(tx)
}

// reader takes an idle reading session; nil: one that has no connection yet.
func (db *DB) reader(ctx context.Context) (*session, error) {
	select {
	case s := <-db.readers:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-db.closing:
		return nil, ErrClosed
	}
}

func (db *DB) giveBack(s *session) {
	if s != nil && s.bad {
		s.close()
		s = nil
	}
	db.readers <- s
}

func isAny(err error, list ...error) bool {
	for _, e := range list {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
