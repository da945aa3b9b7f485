package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// batchSize is how many changes one commit carries at most.
const batchSize = 64

// write is a change that waits for its turn.
type write struct {
	ctx  context.Context
	f    func(tx *Tx) error
	done chan error
	tx   *Tx // what it did; nil when it failed
}

// Write runs f as one change and returns when it is durable. An error of f undoes the
// change and is returned as it is; errors of the store are ErrFull, ErrBroken or
// ErrUnavailable. f runs on the writer's goroutine: it must not wait for anything and not
// call Write. A ctx that ends stops a change that has not begun; one that has begun is
// waited for, so that the answer is never in doubt.
func (db *DB) Write(ctx context.Context, f func(tx *Tx) error) error {
	if db.cfg.ReadOnly {
		return fmt.Errorf("write: %w", ErrReadOnly)
	}
	w := &write{ctx: ctx, f: f, done: make(chan error, 1)}
	select {
	case db.queue <- w:
	case <-ctx.Done():
		return fmt.Errorf("write: %w", ctx.Err())
	case <-db.closing:
		return fmt.Errorf("write: %w", ErrClosed)
	}
	select {
	case err := <-w.done:
		return err
	case <-db.ended:
	}
	// The writer has ended; it may have answered just before.
	select {
	case err := <-w.done:
		return err
	default:
		return fmt.Errorf("write: %w", ErrClosed)
	}
}

func (db *DB) writeLoop(s *session) {
	defer func() {
		if s != nil {
			s.close()
		}
		close(db.ended)
	}()
	list := make([]*write, 0, batchSize)
	crowd := 0
	for {
		list = list[:0]
		select {
		case w := <-db.queue:
			list = append(list, w)
		case <-db.closing:
			// What was queued before Close is still done.
			if list = db.gather(list, 0); len(list) == 0 {
				return
			}
		}
		list = db.gather(list, crowd)
		crowd = len(list)
		s = db.commit(s, list)
		clear(list)
	}
}

// gather fills list with what waits. When many wrote together the last time, they are
// just about to write again: they are given the processor once before the commit starts.
func (db *DB) gather(list []*write, crowd int) []*write {
	yielded := crowd <= 1
	for len(list) < batchSize {
		select {
		case w := <-db.queue:
			list = append(list, w)
			continue
		default:
		}
		if yielded || len(list) >= crowd {
			break
		}
		yielded = true
		runtime.Gosched()
	}
	return list
}

// commit runs the changes in one transaction and answers them. It gives back the session
// for the next commit, nil when a new connection is needed.
func (db *DB) commit(s *session, list []*write) *session {
	ctx := context.Background()
	err := db.Broken()
	if err == nil {
		s, err = db.begin(ctx, s, forWriting)
	}
	if err == nil {
		err = db.run(ctx, s, list)
	}
	if err != nil {
		db.refuse(list, err)
		return db.recover(s)
	}
	db.commits.Add(1)
	for _, w := range list {
		if w.tx == nil {
			continue
		}
		for _, f := range w.tx.after {
			db.afterwards(f)
		}
	}
	for _, w := range list {
		if w.tx != nil && w.tx.signal {
			db.signal()
			break
		}
	}
	for _, w := range list {
		if w.tx != nil {
			db.writes.Add(1)
			w.done <- nil
		}
	}
	return s
}

// begin starts a transaction on s, or on a new connection when s is nil or turns out to be
// lost: nothing was done on it yet, so nothing is in doubt.
func (db *DB) begin(ctx context.Context, s *session, m mode) (*session, error) {
	if s != nil {
		err := s.fail(s.begin(ctx))
		if err == nil || !s.bad {
			return s, err
		}
		s.close()
	}
	s, err := db.eng.connect(ctx, m)
	if err == nil {
		err = s.fail(s.begin(ctx))
	}
	return s, err
}

// afterwards runs what a change asked for; it is stored, so nothing may make it fail.
func (db *DB) afterwards(f func()) {
	defer func() {
		if r := recover(); r != nil {
			db.log.Error("what follows a change panicked", "err", r, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// run executes the changes and commits. Changes that fail alone are answered at once; an
// error means that nothing of the batch was stored.
func (db *DB) run(ctx context.Context, s *session, list []*write) error {
	shared := &batch{next: map[string]int64{}}
	first := true
	for _, w := range list {
		if err := w.ctx.Err(); err != nil {
			w.done <- fmt.Errorf("write: %w", err)
			w.f = nil
			continue
		}
		if len(list) > 1 {
			if err := s.mark(ctx, first); err != nil {
				return s.fail(err)
			}
			first = false
		}
		tx := &Tx{ctx: ctx, s: s, batch: shared}
		err := call(w.f, tx)
		tx.finish()
		switch {
		case err == nil:
			w.tx = tx
		case isAny(err, ErrFull, ErrBroken, ErrUnavailable):
			return err
		default:
			// The neighbours' ids stay as they are: a gap is harmless, a repeat is not.
			if e := undo(ctx, s, len(list) > 1); e != nil {
				return fmt.Errorf("undo: %w", errors.Join(e, err))
			}
			w.done <- err
			w.f = nil
			if len(list) == 1 {
				return nil
			}
		}
	}
	_, err := s.c.ExecContext(ctx, "commit")
	return s.fail(err)
}

func undo(ctx context.Context, s *session, savepoint bool) error {
	query := "rollback"
	if savepoint {
		query = "rollback to savepoint w"
		if s.unsent != nil && s.unsent() {
			return nil // it had no savepoint yet, since it sent nothing
		}
	}
	_, err := s.c.ExecContext(ctx, query)
	return s.fail(err)
}

// call keeps a panic of one change from ending the writer, and with it everyone's writes.
func call(f func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("change panicked: %v\n%s", r, debug.Stack())
		}
	}()
	return f(tx)
}

// refuse answers everyone who was not answered yet, and ends writing after a disk failure.
func (db *DB) refuse(list []*write, err error) {
	if errors.Is(err, ErrBroken) && db.Broken() == nil {
		db.broken.Store(&err)
		db.log.Error("storage failed; writes are refused until restart", "err", err)
	}
	for _, w := range list {
		if w.f != nil {
			w.done <- fmt.Errorf("write: %w", err)
		}
	}
}

// recover brings the connection out of a failed transaction, or gives it up.
func (db *DB) recover(s *session) *session {
	if s == nil {
		return nil
	}
	if !s.bad {
		// After disk-full SQLite has rolled back by itself and says that there is no transaction.
		_, _ = s.c.ExecContext(context.Background(), "rollback")
	}
	s.close()
	return nil
}
