package store

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/test/postgres"
)

// BenchmarkMessageAndFact writes a message and a fact in one change, with 64 writers.
// Run: go test -bench MessageAndFact -run '^$' -cpu 2 -benchtime 100000x ./core/store
func BenchmarkMessageAndFact(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			cfg := Config{Dir: b.TempDir()}
			if engine == "postgres" {
				cfg.DSN, cfg.Dial = server.DSN(b), postgres.Dial
			}
			db := opened(b, cfg)
			is.NoErr(b, db.Write(b.Context(), func(tx *Tx) error {
				_, err := tx.Exec("create table message (id bigint primary key, sender text not null, receiver text not null, body text not null)")
				return err
			}))
			text := "Shall we have lunch at half past twelve? The place around the corner is open again."
			b.SetParallelism(32) // times GOMAXPROCS
			b.ResetTimer()
			began, cpu := time.Now(), processor(b)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					from, to := fmt.Sprintf("u%d@example.test", rand.IntN(1000)), fmt.Sprintf("u%d@example.test", rand.IntN(1000))
					err := db.Write(b.Context(), func(tx *Tx) error {
						id, err := tx.Next("message")
						if err != nil {
							return err
						}
						if _, err := tx.Exec("insert into message (id, sender, receiver, body) values (?, ?, ?, ?)", id, from, to, text); err != nil {
							return err
						}
						if id, err = tx.Next("event"); err != nil {
							return err
						}
						_, err = tx.Exec("insert into event (id, at, kind, body) values (?, ?, ?, ?)", id, Now(), "message.Sent", text)
						tx.Signal()
						return err
					})
					if err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "tx/s")
			// Of this process; a neighbour's load changes it little, unlike tx/s.
			b.ReportMetric(float64((processor(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/tx")
			st := db.Stats()
			b.ReportMetric(float64(st.Writes)/float64(st.Commits), "tx/commit")
		})
	}
}

// processor is the processor time that this process has used.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	is.NoErr(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
