package frontend

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"fernamt/core/event"
	"fernamt/core/store"
)

// Started says that somebody calls.
type Started struct {
	Call string    `json:"call"` // Call-ID
	From string    `json:"from"`
	To   string    `json:"to"`
	At   time.Time `json:"at"`
}

// Answered says that a call was taken.
type Answered struct {
	Call string    `json:"call"`
	By   string    `json:"by"` // contact of the phone
	At   time.Time `json:"at"`
}

// Ended says that a call is over.
type Ended struct {
	Call     string    `json:"call"`
	Status   int       `json:"status"` // 200 after a talk, else why there was none; 0: no sign of an end, given up
	Answered bool      `json:"answered"`
	Seconds  int       `json:"seconds"` // of talk
	At       time.Time `json:"at"`
}

// Kind is "call.Started".
func (Started) Kind() string { return "call.Started" }

// Kind is "call.Answered".
func (Answered) Kind() string { return "call.Answered" }

// Kind is "call.Ended".
func (Ended) Kind() string { return "call.Ended" }

// recorder writes facts in batches beside the signalling: a call never waits for the
// disk. When the store cannot follow, facts are lost and counted, calls are not.
type recorder struct {
	db    *store.DB
	log   *slog.Logger
	queue chan event.Fact
	lost  atomic.Uint64
}

const (
	recordQueue = 1 << 16
	recordBatch = 1024
)

func (r *recorder) init(db *store.DB, log *slog.Logger) {
	r.db, r.log, r.queue = db, log, make(chan event.Fact, recordQueue)
}

func (r *recorder) add(x event.Fact) {
	select {
	case r.queue <- x:
	default:
		r.lost.Add(1)
	}
}

// run writes what has gathered, five times a second or when there is much.
func (r *recorder) run(ctx context.Context) {
	var batch []event.Fact
	reported := uint64(0)
	for {
		batch = batch[:0]
		select {
		case x := <-r.queue:
			batch = append(batch, x)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			r.write(last, r.gather(batch))
			cancel()
			return
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
		r.write(context.WithoutCancel(ctx), r.gather(batch))
		if n := r.lost.Load(); n != reported {
			r.log.Error("facts of calls were lost, the store is too slow", "lost", n-reported)
			reported = n
		}
	}
}

func (r *recorder) gather(batch []event.Fact) []event.Fact {
	for len(batch) < recordBatch {
		select {
		case x := <-r.queue:
			batch = append(batch, x)
		default:
			return batch
		}
	}
	return batch
}

func (r *recorder) write(ctx context.Context, batch []event.Fact) {
	for len(batch) > 0 {
		err := r.db.Write(ctx, func(tx *store.Tx) error { return event.PublishAll(tx, batch) })
		if err != nil {
			r.lost.Add(uint64(len(batch)))
			r.log.Error("facts of calls not written", "err", err)
			return
		}
		batch = r.gather(batch[:0])
	}
}
