package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Advisory locks on the server, so that processes that share a database do not step on each other.
const (
	lockCommit  = 0x6665726e01 // held from begin to commit: commits become visible in the order of their ids
	lockUse     = 0x6665726e02 // shared by every open store; exclusive while restoring
	lockMigrate = 0x6665726e03 // exclusive while the schema changes
)

type postgresEngine struct {
	db *sql.DB
}

func newPostgres(ctx context.Context, cfg Config) (*postgresEngine, error) {
	return postgresIn(ctx, cfg, "")
}

// postgresIn opens the database with schema first in the search path; empty: as the server says.
func postgresIn(ctx context.Context, cfg Config, schema string) (*postgresEngine, error) {
	if cfg.Dial == nil {
		return nil, errors.New("no way to dial the database server was given")
	}
	pc, err := pgx.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("read the database server's name: %w", err)
	}
	if cfg.Password != "" {
		pc.Password = cfg.Password
	}
	// Names are resolved by whoever dials: sockets, also those of DNS, belong to core/listen.
	pc.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	pc.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return cfg.Dial(ctx, network, addr)
	}
	pc.RuntimeParams["application_name"] = "fernamt"
	pc.RuntimeParams["synchronous_commit"] = "on"
	if schema != "" {
		pc.RuntimeParams["search_path"] = schema
	}
	db := stdlib.OpenDB(*pc)
	p := &postgresEngine{db: db}
	if err := db.PingContext(ctx); err != nil {
		_ = db.Close()
		return nil, p.classify(err)
	}
	return p, nil
}

func (p *postgresEngine) connect(ctx context.Context, m mode) (*session, error) {
	c, err := p.db.Conn(ctx)
	if err != nil {
		return nil, p.classify(err)
	}
	s := &session{c: c, eng: p, stmts: map[string]*sql.Stmt{}}
	if m == forLoading {
		return s, nil
	}
	if m != forWriting {
		s.begin = func(ctx context.Context) error {
			_, err := c.ExecContext(context.WithoutCancel(ctx), "begin isolation level repeatable read read only")
			return err
		}
		return s, nil
	}
	// Held as long as the connection lives; a restore asks for it alone.
	var free bool
	err = c.QueryRowContext(ctx, "select pg_try_advisory_lock_shared($1)", int64(lockUse)).Scan(&free)
	if err == nil && !free {
		err = fmt.Errorf("a restore is under way: %w", ErrInUse)
	}
	if err != nil {
		_ = c.Close()
		return nil, p.classify(err)
	}
	s.begin = func(ctx context.Context) error {
		return p.script(ctx, c, fmt.Sprintf("begin; select pg_advisory_xact_lock(%d)", int64(lockCommit)))
	}
	w := &pgWriter{c: c, texts: map[string]string{}, known: map[string]bool{}}
	s.mark, s.direct, s.flush, s.unsent = w.mark, w.exec, w.flush, w.unsent
	return s, nil
}

// pgWriter saves round trips to the server: a savepoint is set by the same packet that
// carries the first statement after it.
type pgWriter struct {
	c       *sql.Conn
	waiting []string // statements of the mark that is to be sent
	texts   map[string]string
	known   map[string]bool // statements that the server has prepared
}

func (w *pgWriter) mark(_ context.Context, first bool) error {
	switch {
	case first:
		w.waiting = []string{"savepoint w"}
	case len(w.waiting) == 0:
		w.waiting = []string{"release savepoint w", "savepoint w"}
	}
	// Otherwise the change before sent nothing, and its mark serves this one.
	return nil
}

func (w *pgWriter) unsent() bool { return len(w.waiting) > 0 }

func (w *pgWriter) flush(ctx context.Context) error {
	if len(w.waiting) == 0 {
		return nil
	}
	text := strings.Join(w.waiting, "; ")
	w.waiting = nil
	return (*postgresEngine)(nil).script(ctx, w.c, text)
}

func (w *pgWriter) exec(ctx context.Context, query string, args []any) (n int64, err error) {
	text, ok := w.texts[query]
	if !ok {
		text = numbered(query)
		if len(w.texts) < maxStatements {
			w.texts[query] = text
		}
	}
	if !w.known[query] {
		// It is prepared in a packet of its own, ahead of the savepoint, which would not undo
		// the harm that a wrong statement does to the transaction.
		if err := w.flush(ctx); err != nil {
			return 0, err
		}
	}
	rawErr := w.c.Raw(func(dc any) error {
		pc := dc.(*stdlib.Conn).Conn()
		if len(w.waiting) == 0 {
			tag, e := pc.Exec(ctx, text, args...)
			n, err = tag.RowsAffected(), e
			return nil
		}
		var b pgx.Batch
		for _, q := range w.waiting {
			b.Queue(q)
		}
		b.Queue(text, args...)
		res := pc.SendBatch(ctx, &b)
		for range w.waiting {
			if _, err = res.Exec(); err != nil {
				break
			}
		}
		if err == nil {
			w.waiting = nil // the savepoint stands, even if what follows fails
			tag, e := res.Exec()
			n, err = tag.RowsAffected(), e
		}
		err = errors.Join(err, closeAfter(res, err))
		return nil
	})
	if err == nil && rawErr == nil && len(w.known) < maxStatements {
		w.known[query] = true
	}
	return n, errors.Join(err, rawErr)
}

// closeAfter closes res; after an error it only repeats it.
func closeAfter(res pgx.BatchResults, err error) error {
	if e := res.Close(); err == nil {
		return e
	}
	return nil
}

// script sends several statements in one round trip.
func (*postgresEngine) script(ctx context.Context, c *sql.Conn, text string) error {
	return c.Raw(func(dc any) error {
		_, err := dc.(*stdlib.Conn).Conn().PgConn().Exec(ctx, text).ReadAll()
		return err
	})
}

func (p *postgresEngine) close() error { return p.db.Close() }

func (p *postgresEngine) classify(err error) error {
	err = oneLine(err)
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return postgresMeaning(pe.Code, err)
	}
	var ne net.Error
	var ce *pgconn.ConnectError
	if errors.As(err, &ne) || errors.As(err, &ce) || pgconn.SafeToRetry(err) ||
		strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "unexpected EOF") {
		return fmt.Errorf("%w (%w)", ErrUnavailable, err)
	}
	return err
}

// onOneLine is an error whose text takes one line: pgx gives each address and try one of its own.
type onOneLine struct {
	error
	text string
}

func (e onOneLine) Error() string { return e.text }
func (e onOneLine) Unwrap() error { return e.error }

func oneLine(err error) error {
	if err == nil || !strings.Contains(err.Error(), "\n") {
		return err
	}
	var parts []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if line = strings.TrimSpace(line); !slices.Contains(parts, line) {
			parts = append(parts, line)
		}
	}
	return onOneLine{err, strings.ReplaceAll(strings.Join(parts, "; "), ":; ", ": ")}
}

// PostgreSQL's codes, https://www.postgresql.org/docs/15/errcodes-appendix.html.
func postgresMeaning(code string, err error) error {
	switch {
	case code == "23505":
		return fmt.Errorf("%w (%w)", ErrExists, err)
	case code == "53100":
		return fmt.Errorf("%w (%w)", ErrFull, err)
	case strings.HasPrefix(code, "28"):
		return fmt.Errorf("%w (%w)", ErrLogin, err)
	case code == "25006":
		return fmt.Errorf("%w (%w)", ErrReadOnly, err)
	case strings.HasPrefix(code, "58"), strings.HasPrefix(code, "XX"):
		return fmt.Errorf("%w (%w)", ErrBroken, err)
	case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "57P"), code == "53300":
		return fmt.Errorf("%w (%w)", ErrUnavailable, err)
	}
	return err
}

func (p *postgresEngine) tables(ctx context.Context, s *session) ([]table, error) {
	rows, err := s.query(ctx, `select c.table_name::text, c.column_name::text from information_schema.columns c
		join information_schema.tables t on t.table_schema = c.table_schema and t.table_name = c.table_name
		where c.table_schema = current_schema() and t.table_type = 'BASE TABLE' and c.table_name <> 'goose_db_version'
		order by c.table_name, c.ordinal_position`, nil)
	if err != nil {
		return nil, err
	}
	return readTables(s, rows)
}
