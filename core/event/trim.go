package event

import (
	"context"
	"fmt"
	"time"

	"fernamt/core/store"
)

// trimStep is how many facts one change deletes, so that other writes are not held up.
const trimStep = 2000

// Subscriber is one name in the log.
type Subscriber struct {
	Name     string
	Position int64     // last fact that it has dealt with
	Behind   int64     // facts that it has still to read, at most
	Seen     time.Time // when it last stored a position
}

// Subscribers lists the names, by name.
func (l *Log) Subscribers(ctx context.Context) ([]Subscriber, error) {
	var list []Subscriber
	err := l.db.Read(ctx, func(tx *store.Tx) error {
		rows, err := tx.Query(`select name, position, seen, (select coalesce(max(id), 0) from event) - position
			from subscriber order by name`)
		if err != nil {
			return err
		}
		for rows.Next() {
			var s Subscriber
			var seen int64
			if err := rows.Scan(&s.Name, &s.Position, &seen, &s.Behind); err != nil {
				return err
			}
			s.Seen = time.Unix(0, seen)
			s.Behind = max(s.Behind, 0)
			list = append(list, s)
		}
		return rows.Err()
	})
	return list, err
}

// Forget ends the subscription of that name, so that the log is no longer kept for it.
func (l *Log) Forget(ctx context.Context, name string) error {
	return l.db.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec("delete from subscriber where name = ?", name)
		if err == nil && n == 0 {
			err = store.ErrNone
		}
		if err != nil {
			return fmt.Errorf("forget subscriber %s: %w", name, err)
		}
		return nil
	})
}

// Trim deletes the facts that all subscribers have read and that are older than Retain, and
// says how many. The newest fact always stays: the next id is counted from it.
func (l *Log) Trim(ctx context.Context) (int64, error) {
	before := time.Now().Add(-l.cfg.Retain).UnixNano()
	var total int64
	for {
		var n int64
		err := l.db.Write(ctx, func(tx *store.Tx) (err error) {
			n, err = trim(tx, before)
			return err
		})
		total += n
		if err != nil || n == 0 {
			return total, err
		}
	}
}

func trim(tx *store.Tx, before int64) (int64, error) {
	// An id under which everything may go: read by all, not the newest, one step further at most.
	var first, upto, newest int64
	if err := tx.QueryRow("select coalesce(min(id), 0), coalesce(max(id), 0) from event").Scan(&first, &newest); err != nil {
		return 0, err
	}
	if err := tx.QueryRow("select coalesce(min(position), ?) from subscriber", newest).Scan(&upto); err != nil {
		return 0, err
	}
	upto = min(upto, newest-1, first+trimStep-1)
	// Clocks jump, so a young fact keeps all that come after it, whatever their time says.
	var young int64
	err := tx.QueryRow("select coalesce(min(id), ?) from event where id >= ? and id <= ? and at >= ?",
		upto+1, first, upto, before).Scan(&young)
	if err != nil {
		return 0, err
	}
	upto = min(upto, young-1)
	n, err := tx.Exec("delete from event where id <= ?", upto)
	if err != nil || n == 0 {
		return n, err
	}
	_, err = tx.Exec(`insert into number (name, last) values ('event trimmed', ?)
		on conflict (name) do update set last = excluded.last`, upto)
	return n, err
}
