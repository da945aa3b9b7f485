// Package event keeps facts: what happened, in the past tense ("call.Ended"), for those who
// watch. [Publish] writes a fact in the same transaction as the change that it tells of, so
// that a fact is never lost nor invented. The table is the log and an id the position in it;
// ids grow in the order of commits. A subscriber has a name and a durable position, and may
// be away for a day.
//
// Readers are woken in process after a commit. A second process on the same database is
// found by polling, or sooner through [Log.Wake] and [Config.Woken], where a message broker
// between hosts plugs in; it may lose everything without loss of a fact.
//
// Goroutines: one per Log, polling and trimming, from Open to Close. Locks: Log.mu guards
// the channel that is closed to wake the readers.
package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"fernamt/core/store"
)

// Fact is something that happened: a struct that JSON can carry.
type Fact interface {
	// Kind names it, package first: "call.Ended". It does not depend on the fields.
	Kind() string
}

// Event is a fact as the log holds it.
type Event struct {
	ID   int64 // the position in the log
	At   time.Time
	Kind string
	Body []byte // the fact in JSON
}

// Publish writes the fact as a part of the change tx. Readers see it after the commit.
func Publish(tx *store.Tx, f Fact) error {
	body, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("publish %s: %w", f.Kind(), err)
	}
	id, err := tx.Next("event")
	if err == nil {
		_, err = tx.Exec("insert into event (id, at, kind, body) values (?, ?, ?, ?)", id, store.Now(), f.Kind(), string(body))
	}
	if err != nil {
		return fmt.Errorf("publish %s: %w", f.Kind(), err)
	}
	tx.Signal()
	return nil
}

// PublishAll is Publish for many facts, in few statements: for facts that are gathered
// beside the work that they tell of.
func PublishAll(tx *store.Tx, facts []Fact) error {
	rows := make([][]any, len(facts))
	now := store.Now()
	for i, f := range facts {
		body, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("publish %s: %w", f.Kind(), err)
		}
		id, err := tx.Next("event") // asks the table once for all that one commit brings
		if err != nil {
			return fmt.Errorf("publish %s: %w", f.Kind(), err)
		}
		rows[i] = []any{id, now, f.Kind(), string(body)}
	}
	if err := tx.Insert("event", []string{"id", "at", "kind", "body"}, rows); err != nil {
		return fmt.Errorf("publish %d facts: %w", len(facts), err)
	}
	tx.Signal()
	return nil
}

// As reads the event as a fact of type F; ok is false when it is of another kind.
func As[F Fact](e Event) (f F, ok bool) {
	if f.Kind() != e.Kind {
		return f, false
	}
	return f, json.Unmarshal(e.Body, &f) == nil
}

// Config says how the log is kept. Zero values mean the defaults.
type Config struct {
	Poll   time.Duration // how often other processes' facts are looked for; 500 ms
	Retain time.Duration // facts younger than this stay even when all have read them; 7 days
	Trim   time.Duration // how often the log is trimmed; 1 hour
	Woken  func()        // called after commits that brought facts, to tell other hosts; must be quick
	Log    *slog.Logger  // nil: slog.Default()
}

// Log is the log of facts in one store.
type Log struct {
	db   *store.DB
	cfg  Config
	stop func()
	quit chan struct{}
	done chan struct{}
	once sync.Once

	mu   sync.Mutex
	wake chan struct{} // closed when there may be more
	head int64         // newest position that polling saw
}

// Open starts following the log in db.
func Open(_ context.Context, db *store.DB, cfg Config) (*Log, error) {
	if cfg.Poll <= 0 {
		cfg.Poll = 500 * time.Millisecond
	}
	if cfg.Retain <= 0 {
		cfg.Retain = 7 * 24 * time.Hour
	}
	if cfg.Trim <= 0 {
		cfg.Trim = time.Hour
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	l := &Log{db: db, cfg: cfg, quit: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{})}
	l.stop = db.OnSignal(func() {
		l.Wake()
		if cfg.Woken != nil {
			cfg.Woken()
		}
	})
	go l.run()
	return l, nil
}

// Close ends the log's goroutine. Readers that wait are told ErrClosed.
func (l *Log) Close() error {
	l.once.Do(func() {
		l.stop()
		close(l.quit)
		<-l.done
	})
	return nil
}

// Wake has all readers look for new facts.
func (l *Log) Wake() {
	l.mu.Lock()
	close(l.wake)
	l.wake = make(chan struct{})
	l.mu.Unlock()
}

func (l *Log) waker() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wake
}

func (l *Log) run() {
	defer close(l.done)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-l.quit
		cancel()
	}()
	poll := time.NewTicker(l.cfg.Poll)
	defer poll.Stop()
	trim := time.NewTicker(l.cfg.Trim)
	defer trim.Stop()
	for {
		select {
		case <-l.quit:
			return
		case <-poll.C:
			l.poll(ctx)
		case <-trim.C:
			if _, err := l.Trim(ctx); err != nil && ctx.Err() == nil {
				l.cfg.Log.Warn("event log not trimmed", "err", err)
			}
		}
	}
}

// poll wakes the readers when somebody else has written. A database that cannot be reached
// is looked for again the next time.
func (l *Log) poll(ctx context.Context) {
	head, err := l.Head(ctx)
	if err != nil {
		return
	}
	l.mu.Lock()
	more := head > l.head
	l.head = head
	l.mu.Unlock()
	if more {
		l.Wake()
	}
}

// Head is the position of the newest fact, 0 in an empty log.
func (l *Log) Head(ctx context.Context) (int64, error) {
	var id int64
	err := l.db.Read(ctx, func(tx *store.Tx) error {
		return tx.QueryRow("select coalesce(max(id), 0) from event").Scan(&id)
	})
	return id, err
}

// ErrClosed says that the log was closed.
var ErrClosed = errors.New("event log is closed")
