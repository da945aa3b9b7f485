// Package room keeps what people write to one another. So far it holds messages for
// people who are not there (RFC 3428): stored before they are acknowledged, delivered
// in order and once.
//
// A message is named by its sender's Call-ID, CSeq and From tag, so that one sent
// again, over whatever connection and after whatever crash, is stored once. The mark
// "delivered" is written when the phone has said so; a crash between the two shows the
// phone the same Call-ID and CSeq again, by which it knows the message.
//
// No goroutines. Box.mu guards the counts of waiting messages, which are kept in
// memory so that a registration need not ask the store.
package room

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"fernamt/core/event"
	"fernamt/core/store"
)

// Limits of what waits for one account.
const (
	MaxWaiting = 1000
	MaxBody    = 64 << 10
)

// keepMarks is how long a delivered message is remembered without its text.
const keepMarks = 24 * time.Hour

// ErrFull says that too much waits already.
var ErrFull = errors.New("too many messages wait for this person")

// Message is one that waits.
type Message struct {
	ID      int64
	Account int64     // whom it is for
	Key     string    // see Key
	From    string    // value of From, with tag
	To      string    // value of To
	Headers []string  // more header lines to keep: "Subject: …"
	Type    string    // Content-Type
	Body    []byte    //
	At      time.Time // when it was taken
	Until   time.Time // worthless after that; zero: never
}

// Key names a message by what its sender repeats when it is sent again.
func Key(callID []byte, cseq uint32, fromTag []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %d %q", callID, cseq, fromTag)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Box holds the messages that wait.
type Box struct {
	db *store.DB
	mu sync.Mutex
	n  map[int64]int // account → messages waiting
}

// Open counts what waits.
func Open(ctx context.Context, db *store.DB) (*Box, error) {
	b := &Box{db: db, n: map[int64]int{}}
	err := db.Read(ctx, func(tx *store.Tx) error {
		rows, err := tx.Query("select account, count(*) from waiting where delivered = 0 group by account")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var account int64
			var n int
			if err := rows.Scan(&account, &n); err != nil {
				return err
			}
			b.n[account] = n
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("open waiting messages: %w", err)
	}
	return b, nil
}

// Waiting is how many messages wait for the account.
func (b *Box) Waiting(account int64) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n[account]
}

func (b *Box) add(account int64, n int) {
	b.mu.Lock()
	if b.n[account] += n; b.n[account] <= 0 {
		delete(b.n, account)
	}
	b.mu.Unlock()
}

// Put stores m; it is durable when Put returns. fresh is false when it was stored
// before, delivered or not.
func (b *Box) Put(ctx context.Context, m Message) (fresh bool, err error) {
	if len(m.Body) > MaxBody {
		return false, fmt.Errorf("keep a message of %d octets: %w", len(m.Body), ErrFull)
	}
	if b.Waiting(m.Account) >= MaxWaiting {
		return false, ErrFull
	}
	if m.Body == nil {
		m.Body = []byte{}
	}
	until := int64(0)
	if !m.Until.IsZero() {
		until = m.Until.UnixNano()
	}
	err = b.db.Write(ctx, func(tx *store.Tx) error {
		fresh = false
		var have int64
		err := tx.QueryRow("select id from waiting where account = ? and key = ?", m.Account, m.Key).Scan(&have)
		if err == nil {
			return nil
		}
		if !errors.Is(err, store.ErrNone) {
			return err
		}
		id, err := tx.Number("waiting", 1)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`insert into waiting (id, account, key, sender, recipient, headers, type, body, at, until, delivered)
			values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)`,
			id, m.Account, m.Key, m.From, m.To, strings.Join(m.Headers, "\n"), m.Type, m.Body, m.At.UnixNano(), until)
		if err != nil {
			return err
		}
		fresh = true
		tx.After(func() { b.add(m.Account, 1) })
		return event.Publish(tx, Sent{Key: m.Key, From: m.From, To: m.To, Type: m.Type, Size: len(m.Body), Stored: true})
	})
	if err != nil {
		return false, fmt.Errorf("keep a message: %w", err)
	}
	return fresh, nil
}

// Next gives up to n messages for the account that come after the one with the given
// ID, in the order in which they were taken. What is worthless by now is left out and
// marked.
func (b *Box) Next(ctx context.Context, account, after int64, n int) ([]Message, error) {
	var list []Message
	var dead []int64
	now := time.Now()
	err := b.db.Read(ctx, func(tx *store.Tx) error {
		list, dead = nil, nil
		rows, err := tx.Query(`select id, key, sender, recipient, headers, type, body, at, until from waiting
			where account = ? and delivered = 0 and id > ? order by id limit ?`, account, after, n)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			m := Message{Account: account}
			var headers string
			var at, until int64
			if err := rows.Scan(&m.ID, &m.Key, &m.From, &m.To, &headers, &m.Type, &m.Body, &at, &until); err != nil {
				return err
			}
			if until != 0 && until < now.UnixNano() {
				dead = append(dead, m.ID)
				continue
			}
			m.At = time.Unix(0, at)
			if headers != "" {
				m.Headers = strings.Split(headers, "\n")
			}
			list = append(list, m)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read waiting messages: %w", err)
	}
	for _, id := range dead {
		if err := b.mark(ctx, Message{ID: id, Account: account}, false); err != nil {
			return nil, err
		}
	}
	if len(list) == 0 && len(dead) == n {
		return b.Next(ctx, account, dead[n-1], n)
	}
	return list, nil
}

// Delivered marks a message as delivered; it is durable when it returns. The text goes.
func (b *Box) Delivered(ctx context.Context, m Message) error { return b.mark(ctx, m, true) }

func (b *Box) mark(ctx context.Context, m Message, fact bool) error {
	err := b.db.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec("update waiting set delivered = ?, body = ?, headers = '' where id = ? and delivered = 0",
			store.Now(), []byte{}, m.ID)
		if err != nil || n == 0 {
			return err
		}
		tx.After(func() { b.add(m.Account, -1) })
		if _, err := tx.Exec("delete from waiting where account = ? and delivered > 0 and delivered < ?",
			m.Account, store.Now()-int64(keepMarks)); err != nil {
			return err
		}
		if !fact {
			return nil
		}
		return event.Publish(tx, Delivered{Key: m.Key, From: m.From, To: m.To})
	})
	if err != nil {
		return fmt.Errorf("mark a message as delivered: %w", err)
	}
	return nil
}

// Accounts lists those for whom something waits.
func (b *Box) Accounts() []int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.n))
}

// Forget drops everything that waits for an account, say because it was removed.
func (b *Box) Forget(ctx context.Context, account int64) error {
	err := b.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("delete from waiting where account = ?", account)
		tx.After(func() {
			b.mu.Lock()
			delete(b.n, account)
			b.mu.Unlock()
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("forget waiting messages: %w", err)
	}
	return nil
}
