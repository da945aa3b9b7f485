package ident

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"fernamt/test/is"
)

func csvOf(n int) string {
	var b strings.Builder
	b.WriteString("address,name,password,numbers\n")
	for i := range n {
		fmt.Fprintf(&b, "user%06d@example.test,User Number %d,initial-%d,+4930%07d\n", i, i, i*7919, i)
	}
	return b.String()
}

// BenchmarkImport imports 100,000 rows and tells rows per second and octets per account.
// Run: go test -bench Import -run '^$' -benchtime 1x ./core/ident
func BenchmarkImport(b *testing.B) {
	text := csvOf(100_000)
	both(b, func(b *testing.B, w *world) {
		d := w.directory(b, Config{})
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		done, err := d.Import(b.Context(), strings.NewReader(text), Importing{})
		took := time.Since(began)
		is.NoErr(b, err)
		is.Equal(b, done.Added, 100_000)
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(100_000/took.Seconds(), "rows/s")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/100_000, "B/account")
		began = time.Now()
		again := w.directory(b, Config{})
		b.ReportMetric(time.Since(began).Seconds(), "s/load")
		is.Equal(b, again.Count(), 100_000)
		runtime.KeepAlive(d)
	})
}

// BenchmarkLookup finds one of 100,000 accounts.
func BenchmarkLookup(b *testing.B) {
	d := newWorld(b, "").directory(b, Config{})
	_, err := d.Import(b.Context(), strings.NewReader(csvOf(100_000)), Importing{})
	is.NoErr(b, err)
	keys := make([][]byte, 1<<14)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "user%06d@example.test", i*6)
	}
	mixed := []byte("User000077@Example.Test")
	for name, f := range map[string]func(i int) *Account{
		"address":  func(i int) *Account { return d.ByAddress(keys[i&(1<<14-1)]) },
		"same":     func(i int) *Account { return d.ByAddress(keys[5]) },
		"case":     func(i int) *Account { return d.ByAddress(mixed) },
		"number":   func(i int) *Account { return d.ByNumber([]byte("+49300000077")) },
		"username": func(i int) *Account { return d.ByUsername([]byte("user000077"), []byte("example.test")) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				if f(i) == nil {
					b.Fatal("not found")
				}
			}
		})
	}
}
