package room

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"fernamt/core/store"
	"fernamt/test/is"
)

func open(t *testing.T, dir string) (*store.DB, *Box) {
	t.Helper()
	db, err := store.Open(context.Background(), store.Config{Dir: dir, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	is.NoErr(t, err)
	b, err := Open(context.Background(), db)
	is.NoErr(t, err)
	return db, b
}

func message(n int) Message {
	return Message{Account: 7, Key: Key(fmt.Appendf(nil, "call%d", n), 1, []byte("tag")), From: "<sip:bob@x>;tag=1", To: "<sip:alice@x>",
		Headers: []string{"Subject: a", "Date: b"}, Type: "text/plain", Body: fmt.Appendf(nil, "text %d", n), At: time.Now()}
}

func texts(t *testing.T, b *Box) (s []string) {
	t.Helper()
	list, err := b.Next(context.Background(), 7, 0, 10000)
	is.NoErr(t, err)
	for _, m := range list {
		s = append(s, string(m.Body))
	}
	return s
}

func TestOnceAndInOrder(t *testing.T) {
	ctx := context.Background()
	db, b := open(t, t.TempDir())
	defer db.Close()
	for _, n := range []int{1, 2, 1, 3, 2} {
		_, err := b.Put(ctx, message(n))
		is.NoErr(t, err)
	}
	is.Equal(t, texts(t, b), []string{"text 1", "text 2", "text 3"})
	is.Equal(t, b.Waiting(7), 3)
	list, err := b.Next(ctx, 7, 0, 1)
	is.NoErr(t, err)
	is.Equal(t, list[0].Headers, []string{"Subject: a", "Date: b"})
	is.NoErr(t, b.Delivered(ctx, list[0]))
	is.NoErr(t, b.Delivered(ctx, list[0]), "twice is once")
	is.Equal(t, b.Waiting(7), 2)
	fresh, err := b.Put(ctx, message(1))
	is.NoErr(t, err)
	is.True(t, !fresh, "sent again after its delivery")
	is.Equal(t, texts(t, b), []string{"text 2", "text 3"})
	is.Equal(t, b.Accounts(), []int64{7})
	is.NoErr(t, b.Forget(ctx, 7))
	is.Equal(t, len(b.Accounts()), 0)
	is.Equal(t, b.Waiting(7), 0)
}

func TestWorthless(t *testing.T) {
	ctx := context.Background()
	db, b := open(t, t.TempDir())
	defer db.Close()
	for n := range 4 {
		m := message(n)
		if n < 3 {
			m.Until = time.Now().Add(-time.Second)
		}
		_, err := b.Put(ctx, m)
		is.NoErr(t, err)
	}
	list, err := b.Next(ctx, 7, 0, 2)
	is.NoErr(t, err)
	is.Equal(t, len(list), 1)
	is.Equal(t, string(list[0].Body), "text 3")
	is.Equal(t, b.Waiting(7), 1)
}

func TestLimits(t *testing.T) {
	ctx := context.Background()
	db, b := open(t, t.TempDir())
	defer db.Close()
	m := message(1)
	m.Body = make([]byte, MaxBody+1)
	_, err := b.Put(ctx, m)
	is.True(t, errors.Is(err, ErrFull))
	b.add(7, MaxWaiting)
	_, err = b.Put(ctx, message(2))
	is.True(t, errors.Is(err, ErrFull))
}

// Fifty crashes while messages are taken and delivered: what was acknowledged is
// delivered once, in order. A sender repeats what was not acknowledged; a phone knows
// a message that comes again by its ID, as it does by Call-ID and CSeq on the wire.
func TestFiftyCrashes(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	rnd := rand.New(rand.NewPCG(1, 2))
	var phone []string
	seen := map[int64]bool{}
	next := 0
	for crash := range 50 {
		db, b := open(t, dir)
		for range 3 + rnd.IntN(3) {
			if _, err := b.Put(ctx, message(next)); err != nil {
				t.Fatal(err)
			}
			if rnd.IntN(3) == 0 { // the acknowledgement is lost: it comes again
				_, err := b.Put(ctx, message(next))
				is.NoErr(t, err)
			}
			next++
		}
		list, err := b.Next(ctx, 7, 0, 1+rnd.IntN(4))
		is.NoErr(t, err)
		for i, m := range list {
			if !seen[m.ID] {
				seen[m.ID] = true
				phone = append(phone, string(m.Body))
			}
			if crash < 49 && i == len(list)-1 && rnd.IntN(2) == 0 {
				break // dies before the mark is written
			}
			is.NoErr(t, b.Delivered(ctx, m))
		}
		is.NoErr(t, db.Close()) // what was written is on disk at each return; the lock must go
	}
	db, b := open(t, dir)
	defer db.Close()
	list, err := b.Next(ctx, 7, 0, 10000)
	is.NoErr(t, err)
	for _, m := range list {
		if !seen[m.ID] {
			phone = append(phone, string(m.Body))
		}
	}
	is.Equal(t, len(phone), next)
	for i, s := range phone {
		is.Equal(t, s, fmt.Sprint("text ", i))
	}
}
