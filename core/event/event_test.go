package event

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"fernamt/core/store"
	"fernamt/test/is"
	"fernamt/test/postgres"
)

var server postgres.Server

func TestMain(m *testing.M) {
	code := m.Run()
	server.Stop()
	os.Exit(code)
}

type ended struct {
	Call string `json:"call"`
	N    int    `json:"n"`
}

func (ended) Kind() string { return "call.Ended" }

type posted struct{ Text string }

func (posted) Kind() string { return "room.Posted" }

func both(t *testing.T, f func(t *testing.T, cfg store.Config)) {
	t.Run("sqlite", func(t *testing.T) { f(t, store.Config{Dir: t.TempDir()}) })
	t.Run("postgres", func(t *testing.T) {
		f(t, store.Config{Dir: t.TempDir(), DSN: server.DSN(t), Dial: postgres.Dial})
	})
}

// opened opens store and log; the function closes both, and is called at the end otherwise.
func opened(t *testing.T, sc store.Config, cfg Config) (*Log, func()) {
	t.Helper()
	db, err := store.Open(t.Context(), sc)
	is.NoErr(t, err)
	l, err := Open(t.Context(), db, cfg)
	is.NoErr(t, err)
	end := sync.OnceFunc(func() {
		is.NoErr(t, l.Close())
		is.NoErr(t, db.Close())
	})
	t.Cleanup(end)
	return l, end
}

func publish(t *testing.T, l *Log, facts ...Fact) {
	t.Helper()
	for _, f := range facts {
		is.NoErr(t, l.db.Write(context.Background(), func(tx *store.Tx) error { return Publish(tx, f) }))
	}
}

func next(t *testing.T, r *Reader) Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	e, err := r.Next(ctx)
	is.NoErr(t, err)
	return e
}

func nothing(t *testing.T, r *Reader) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	e, err := r.Next(ctx)
	is.True(t, errors.Is(err, context.DeadlineExceeded), fmt.Sprint(e, err))
}

func TestPublishAndRead(t *testing.T) {
	both(t, func(t *testing.T, sc store.Config) {
		// Polling is too slow to help: it is the commit that wakes.
		woken := make(chan bool, 99)
		l, _ := opened(t, sc, Config{Poll: time.Hour, Woken: func() { woken <- true }})
		r, err := l.Subscribe(t.Context(), "archive", Oldest)
		is.NoErr(t, err)
		nothing(t, r)
		go publish(t, l, ended{"c1", 1})
		e := next(t, r)
		f, ok := As[ended](e)
		is.True(t, ok)
		is.Equal(t, f, ended{"c1", 1})
		is.True(t, time.Since(e.At) < time.Minute)
		_, ok = As[posted](e)
		is.True(t, !ok)
		<-woken
		// A change that fails publishes nothing.
		boom := errors.New("boom")
		err = l.db.Write(t.Context(), func(tx *store.Tx) error { return errors.Join(Publish(tx, ended{"c2", 2}), boom) })
		is.True(t, errors.Is(err, boom))
		nothing(t, r)
		is.Equal(t, len(woken), 0)
		publish(t, l, posted{"hello"})
		is.Equal(t, next(t, r).Kind, "room.Posted")
		head, err := l.Head(t.Context())
		is.NoErr(t, err)
		is.Equal(t, r.At(), head)
		is.NoErr(t, l.Close())
		_, err = r.Next(t.Context())
		is.True(t, errors.Is(err, ErrClosed))
	})
}

func TestPositionIsDurable(t *testing.T) {
	both(t, func(t *testing.T, sc store.Config) {
		l, end := opened(t, sc, Config{})
		publish(t, l, ended{"c", 1}, ended{"c", 2})
		late, err := l.Subscribe(t.Context(), "late", Newest)
		is.NoErr(t, err)
		r, err := l.Subscribe(t.Context(), "archive", Oldest)
		is.NoErr(t, err)
		publish(t, l, ended{"c", 3}, ended{"c", 4})
		one, two := next(t, r), next(t, r)
		is.NoErr(t, r.Done(t.Context(), one.ID))
		f, _ := As[ended](next(t, late))
		is.Equal(t, f.N, 3)
		end() // as if the process had ended with the second fact read and not dealt with
		l, _ = opened(t, sc, Config{})
		r, err = l.Subscribe(t.Context(), "archive", Newest)
		is.NoErr(t, err)
		again := next(t, r)
		is.Equal(t, again.ID, two.ID)
		// In one transaction with what the fact leads to.
		boom := errors.New("boom")
		err = l.db.Write(t.Context(), func(tx *store.Tx) error { return errors.Join(r.DoneTx(tx, again.ID), boom) })
		is.True(t, errors.Is(err, boom))
		list, err := l.Subscribers(t.Context())
		is.NoErr(t, err)
		is.Equal(t, len(list), 2)
		is.Equal(t, [2]any{list[0].Name, list[0].Position}, [2]any{"archive", one.ID})
		is.Equal(t, list[0].Behind, 3)
		is.NoErr(t, r.Done(t.Context(), again.ID))
		is.True(t, r.Done(t.Context(), one.ID) != nil, "a position does not go back")
		is.NoErr(t, l.Forget(t.Context(), "archive"))
		is.True(t, errors.Is(l.Forget(t.Context(), "archive"), store.ErrNone))
	})
}

// TestOrder has two processes write at once: whoever reads sees ids in order and none late.
func TestOrder(t *testing.T) {
	sc := store.Config{Dir: t.TempDir(), DSN: server.DSN(t), Dial: postgres.Dial}
	one, _ := opened(t, sc, Config{Poll: 5 * time.Millisecond})
	two, _ := opened(t, sc, Config{Poll: 5 * time.Millisecond})
	const each, writers = 60, 6
	var wg sync.WaitGroup
	for w := range writers {
		l := []*Log{one, two}[w%2]
		wg.Go(func() {
			for i := range each {
				publish(t, l, ended{fmt.Sprint(w), i})
			}
		})
	}
	read := func(l *Log) []int64 {
		r := l.Follow(0)
		var ids []int64
		last := map[string]int{}
		for len(ids) < each*writers {
			e := next(t, r)
			f, _ := As[ended](e)
			if n, ok := last[f.Call]; ok && n != f.N-1 || !ok && f.N != 0 {
				t.Fatalf("writer %s: %d after %d", f.Call, f.N, n)
			}
			last[f.Call] = f.N
			ids = append(ids, e.ID)
		}
		return ids
	}
	var a, b []int64
	wg.Go(func() { a = read(one) })
	wg.Go(func() { b = read(two) })
	wg.Wait()
	is.True(t, slices.IsSorted(a))
	is.Equal(t, a, b)
}

func TestTrim(t *testing.T) {
	both(t, func(t *testing.T, sc store.Config) {
		l, end := opened(t, sc, Config{Retain: time.Nanosecond})
		for range 50 {
			is.NoErr(t, l.db.Write(t.Context(), func(tx *store.Tx) error {
				for i := range 100 {
					if err := Publish(tx, ended{"c", i}); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		r, err := l.Subscribe(t.Context(), "archive", Oldest)
		is.NoErr(t, err)
		behind := l.Follow(10)
		n, err := l.Trim(t.Context())
		is.NoErr(t, err)
		is.Equal(t, n, 0, "the subscriber has read nothing")
		var at int64
		for range 4500 {
			at = next(t, r).ID
		}
		is.NoErr(t, r.Done(t.Context(), at))
		n, err = l.Trim(t.Context())
		is.NoErr(t, err)
		is.Equal(t, n, 4500)
		_, err = behind.Next(t.Context())
		is.True(t, errors.Is(err, ErrTrimmed), fmt.Sprint(err))
		is.Equal(t, next(t, r).ID, at+1)
		is.NoErr(t, l.Forget(t.Context(), "archive"))
		n, err = l.Trim(t.Context())
		is.NoErr(t, err)
		is.Equal(t, n, 499, "the newest stays")
		head, err := l.Head(t.Context())
		is.NoErr(t, err)
		end()
		l, _ = opened(t, sc, Config{})
		publish(t, l, ended{"new", 1})
		e := next(t, l.Follow(head))
		is.Equal(t, e.ID, head+1, "an id never comes again")
		n, err = l.Trim(t.Context())
		is.NoErr(t, err)
		is.Equal(t, n, 0, "young facts stay")
	})
}

func TestBatch(t *testing.T) {
	l, _ := opened(t, store.Config{Dir: t.TempDir()}, Config{})
	for i := range 300 {
		publish(t, l, ended{"c", i})
	}
	r := l.Follow(0)
	sizes := []int{}
	for len(sizes) < 2 {
		list, err := r.Batch(t.Context())
		is.NoErr(t, err)
		sizes = append(sizes, len(list))
	}
	is.Equal(t, sizes, []int{256, 44})
	is.NoErr(t, r.Done(t.Context(), r.At()), "a reader without a name keeps no position")
}

// Many facts at once are in order, between those that come one by one.
func TestPublishAll(t *testing.T) {
	both(t, func(t *testing.T, sc store.Config) {
		l, _ := opened(t, sc, Config{})
		var many []Fact
		for i := range 120 {
			many = append(many, ended{Call: "m", N: i})
		}
		is.NoErr(t, l.db.Write(t.Context(), func(tx *store.Tx) error {
			if err := Publish(tx, ended{Call: "a"}); err != nil {
				return err
			}
			if err := PublishAll(tx, many); err != nil {
				return err
			}
			if err := PublishAll(tx, nil); err != nil {
				return err
			}
			return Publish(tx, ended{Call: "z"})
		}))
		r := l.Follow(0)
		var got []int
		for len(got) < 122 {
			e, err := r.Next(t.Context())
			is.NoErr(t, err)
			f, ok := As[ended](e)
			is.True(t, ok, e.Kind)
			got = append(got, f.N)
		}
		for i := range 120 {
			is.Equal(t, got[i+1], i)
		}
	})
}
