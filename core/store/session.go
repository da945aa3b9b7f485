package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strconv"
	"strings"
)

// session is one connection and the statements prepared on it. One goroutine uses it at a time.
type session struct {
	c     *sql.Conn
	eng   engine
	stmts map[string]*sql.Stmt
	begin func(ctx context.Context) error // starts a transaction
	// mark ends the last change's savepoint, if any, and sets the next one.
	mark func(ctx context.Context, first bool) error
	// direct, if there, runs a statement without rows past database/sql.
	direct func(ctx context.Context, query string, args []any) (int64, error)
	// flush sends a mark that waits for company; nil when marks never wait.
	flush  func(ctx context.Context) error
	unsent func() bool // a mark waits
	bad    bool        // the connection is lost
}

// A server has a few hundred different statements; more means that someone builds them by hand.
const maxStatements = 1000

func (s *session) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if st, ok := s.stmts[query]; ok {
		return st, nil
	}
	if len(s.stmts) >= maxStatements {
		s.forget()
	}
	text := query
	if _, ok := s.eng.(*postgresEngine); ok {
		text = numbered(query)
	}
	st, err := s.c.PrepareContext(ctx, text)
	if err != nil {
		return nil, s.fail(err)
	}
	s.stmts[query] = st
	return st, nil
}

func (s *session) exec(ctx context.Context, query string, args []any) (int64, error) {
	if s.direct != nil {
		n, err := s.direct(ctx, query, plain(args))
		return n, s.fail(err)
	}
	st, err := s.prepare(ctx, query)
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(ctx, plain(args)...)
	if err != nil {
		return 0, s.fail(err)
	}
	n, err := res.RowsAffected()
	return n, s.fail(err)
}

func (s *session) query(ctx context.Context, query string, args []any) (*sql.Rows, error) {
	if s.flush != nil {
		if err := s.flush(ctx); err != nil {
			return nil, s.fail(err)
		}
	}
	st, err := s.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	rows, err := st.QueryContext(ctx, plain(args)...)
	return rows, s.fail(err)
}

// fail classifies err and notes a lost connection.
func (s *session) fail(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		s.bad = true
		return errors.Join(ErrUnavailable, err)
	}
	err = s.eng.classify(err)
	if errors.Is(err, ErrUnavailable) {
		s.bad = true
	}
	return err
}

func (s *session) forget() {
	for _, st := range s.stmts {
		_ = st.Close()
	}
	clear(s.stmts)
}

func (s *session) close() {
	s.forget()
	_ = s.c.Close()
}

// plain turns truth values into numbers, as the columns hold them. args is changed in place.
func plain(args []any) []any {
	for i, a := range args {
		if b, ok := a.(bool); ok {
			if b {
				args[i] = int64(1)
			} else {
				args[i] = int64(0)
			}
		}
	}
	return args
}

// numbered turns each ? outside of quotes into $1, $2 and so on.
func numbered(query string) string {
	var out strings.Builder
	n, quoted := 0, false
	for _, r := range query {
		switch {
		case r == '\'':
			quoted = !quoted
			out.WriteRune(r)
		case r == '?' && !quoted:
			n++
			out.WriteByte('$')
			out.WriteString(strconv.Itoa(n))
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}
