package event

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fernamt/core/store"
)

// ErrTrimmed says that facts were trimmed before this reader came to them. It can only
// happen to a reader without a name; what it built from facts must be built anew.
var ErrTrimmed = errors.New("facts were trimmed that had not been read")

// Start is where a new subscriber begins.
type Start uint8

const (
	Oldest Start = iota // with the oldest fact that is still there
	Newest              // with the next fact that comes
)

// Reader reads the log in order. One goroutine uses it at a time.
type Reader struct {
	log     *Log
	name    string // empty: nothing is kept
	at      int64  // position of the last fact handed out
	pending []Event
}

// batchSize is how many facts are fetched at once.
const batchSize = 256

// Subscribe gives a reader with a name. When the name is known it goes on behind the last
// position that [Reader.Done] stored, otherwise it starts where from says. Facts that a
// subscriber has not read are never trimmed; [Log.Forget] ends a subscription for good.
func (l *Log) Subscribe(ctx context.Context, name string, from Start) (*Reader, error) {
	r := &Reader{log: l, name: name}
	err := l.db.Write(ctx, func(tx *store.Tx) error {
		err := tx.QueryRow("select position from subscriber where name = ?", name).Scan(&r.at)
		if !errors.Is(err, store.ErrNone) {
			return err
		}
		first := "select coalesce(max(id), 0) from event"
		if from == Oldest {
			first = "select coalesce(min(id) - 1, 0) from event"
		}
		if err := tx.QueryRow(first).Scan(&r.at); err != nil {
			return err
		}
		_, err = tx.Exec("insert into subscriber (name, position, seen) values (?, ?, ?)", name, r.at, store.Now())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", name, err)
	}
	return r, nil
}

// Follow gives a reader without a name that starts behind position at. It does not keep
// facts from being trimmed.
func (l *Log) Follow(at int64) *Reader { return &Reader{log: l, at: at} }

// At is the position of the last fact that Next gave.
func (r *Reader) At() int64 { return r.at }

// Next gives the next fact and waits for it if need be. After an error that is not final
// (a database that cannot be reached) it may be called again.
func (r *Reader) Next(ctx context.Context) (Event, error) {
	for len(r.pending) == 0 {
		list, err := r.wait(ctx)
		if err != nil {
			return Event{}, err
		}
		r.pending = list
	}
	e := r.pending[0]
	r.pending = r.pending[1:]
	r.at = e.ID
	return e, nil
}

// Batch gives the facts that are there, 256 at most, and waits for the first if need be.
func (r *Reader) Batch(ctx context.Context) ([]Event, error) {
	list := r.pending
	r.pending = nil
	if len(list) == 0 {
		var err error
		if list, err = r.wait(ctx); err != nil {
			return nil, err
		}
	}
	r.at = list[len(list)-1].ID
	return list, nil
}

func (r *Reader) wait(ctx context.Context) ([]Event, error) {
	for {
		// Asked for before looking, so that what is committed in between is not slept over.
		wake := r.log.waker()
		list, err := r.fetch(ctx)
		if err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		if len(list) > 0 {
			return list, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.log.quit:
			return nil, ErrClosed
		}
	}
}

func (r *Reader) fetch(ctx context.Context) ([]Event, error) {
	var list []Event
	err := r.log.db.Read(ctx, func(tx *store.Tx) error {
		rows, err := tx.Query("select id, at, kind, body from event where id > ? order by id limit ?", r.at, batchSize)
		if err != nil {
			return err
		}
		for rows.Next() {
			var e Event
			var at int64
			if err := rows.Scan(&e.ID, &at, &e.Kind, &e.Body); err != nil {
				return err
			}
			e.At = time.Unix(0, at)
			list = append(list, e)
		}
		if err := rows.Err(); err != nil || r.name != "" {
			return err
		}
		return r.check(tx)
	})
	return list, err
}

// check finds out whether facts behind a nameless reader's position are gone. Ids may have
// gaps, so what counts is the highest position that was ever trimmed.
func (r *Reader) check(tx *store.Tx) error {
	var trimmed int64
	err := tx.QueryRow("select last from number where name = 'event trimmed'").Scan(&trimmed)
	if errors.Is(err, store.ErrNone) {
		return nil
	}
	if err == nil && r.at < trimmed {
		return ErrTrimmed
	}
	return err
}

// Done stores durably that every fact up to and with position is dealt with.
func (r *Reader) Done(ctx context.Context, position int64) error {
	return r.log.db.Write(ctx, func(tx *store.Tx) error { return r.DoneTx(tx, position) })
}

// DoneTx is Done as a part of the change tx: when that change is what the fact leads to, the
// fact is dealt with exactly once.
func (r *Reader) DoneTx(tx *store.Tx, position int64) error {
	if r.name == "" {
		return nil
	}
	n, err := tx.Exec("update subscriber set position = ?, seen = ? where name = ? and position <= ?",
		position, store.Now(), r.name, position)
	if err == nil && n == 0 {
		err = errors.New("subscription is gone or further on")
	}
	if err != nil {
		return fmt.Errorf("subscriber %s at %d: %w", r.name, position, err)
	}
	return nil
}
