package gss

import (
	"crypto/md5"
	"encoding/hex"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fernamt/test/is"
)

func md5Hex(s string) string {
	x := md5.Sum([]byte(s))
	return hex.EncodeToString(x[:])
}

// hand is a clock moved by hand.
type hand struct{ atomic.Int64 }

func made(life time.Duration) (*Nonces, *hand) {
	var h hand
	h.Store(int64(time.Hour))
	return NewNonces([32]byte{1, 2, 3}, life, h.Load), &h
}

func TestNonceLife(t *testing.T) {
	n, clock := made(time.Minute)
	a, b := n.Make(nil), n.Make([]byte("x"))
	is.Equal(t, len(a), nonceSize)
	is.True(t, string(a) != string(b[1:]), "two nonces differ")
	is.Equal(t, n.Check(a, 1), Fresh)
	is.Equal(t, n.Check(a, 1), Replayed)
	is.Equal(t, n.Check(a, 2), Fresh)
	clock.Add(int64(time.Minute) + 1)
	is.Equal(t, n.Check(a, 3), Stale, "too old")
	is.Equal(t, n.Check(b[1:], 1), Stale, "too old, never used")
	clock.Add(-int64(time.Hour))
	is.Equal(t, n.Check(a, 3), Stale, "from the future")
}

func TestNonceForged(t *testing.T) {
	n, _ := made(time.Minute)
	a := n.Make(nil)
	for i := range a {
		old := a[i]
		a[i] = 'A'
		if old == 'A' {
			a[i] = 'B'
		}
		is.Equal(t, n.Check(a, 1), Stale, "one letter changed")
		a[i] = old
	}
	for _, s := range []string{"", "abc", string(a[:39]), string(a) + "A", string(a[:38]) + "\r\n", string(a[:39]) + "="} {
		is.Equal(t, n.Check([]byte(s), 1), Stale, s)
	}
	other, _ := made(time.Minute)
	other.key[0] = 99
	is.Equal(t, other.Check(a, 1), Stale, "another key")
	same, _ := made(time.Minute)
	is.Equal(t, same.Check(a, 1), Fresh, "the same key elsewhere")
	is.Equal(t, n.Check(a, 1), Fresh, "untouched")
}

func TestNonceWindow(t *testing.T) {
	n, _ := made(time.Minute)
	a := n.Make(nil)
	for _, c := range []struct {
		nc   uint32
		want Verdict
	}{
		{5, Fresh}, {5, Replayed}, {3, Fresh}, {3, Replayed}, {4, Fresh}, {70, Fresh}, {6, Stale}, {7, Fresh}, {7, Replayed},
		{5, Stale}, {69, Fresh}, {1 << 31, Fresh}, {70, Stale}, {1<<32 - 1, Fresh}, {1<<32 - 1, Replayed}, {1<<32 - 2, Fresh}, {0, Stale},
	} {
		is.Equal(t, n.Check(a, c.nc), c.want)
	}
	b := n.Make(nil)
	is.Equal(t, n.Check(b, 0), Fresh, "without qop once")
	is.Equal(t, n.Check(b, 0), Stale, "without qop twice")
	is.Equal(t, n.Check(b, 1), Stale, "then with a count")
}

// What was overwritten is stale, never fresh again; what is young stays good.
func TestNonceEvicted(t *testing.T) {
	n, clock := made(time.Hour)
	const many = shardCount * shardSize * 3 / 2
	all := make([][]byte, many)
	for i := range all {
		all[i] = n.Make(nil)
		is.Equal(t, n.Check(all[i], 1), Fresh)
		clock.Add(1000)
	}
	stale, replayed := 0, 0
	for _, a := range all {
		switch n.Check(a, 1) {
		case Stale:
			stale++
		case Replayed:
			replayed++
		default:
			t.Fatal("a replay was fresh")
		}
	}
	is.Equal(t, replayed, shardCount*shardSize)
	is.Equal(t, stale, many-replayed)
	is.Equal(t, n.Check(all[many-1], 2), Fresh)
	is.Equal(t, n.Check(n.Make(nil), 1), Fresh)
}

// Of many goroutines that use one count, one gets Fresh.
func TestNonceRace(t *testing.T) {
	n, _ := made(time.Hour)
	var fresh atomic.Int64
	var wg sync.WaitGroup
	all := make([][]byte, 100)
	for i := range all {
		all[i] = n.Make(nil)
	}
	for range 8 {
		wg.Go(func() {
			for _, a := range all {
				for nc := uint32(1); nc <= 20; nc++ {
					if n.Check(a, nc) == Fresh {
						fresh.Add(1)
					}
				}
				n.Make(nil)
			}
		})
	}
	wg.Wait()
	is.Equal(t, fresh.Load(), 100*20)
}

func TestNoAllocation(t *testing.T) {
	n, _ := made(time.Hour)
	room := make([]byte, 0, 64)
	a := n.Make(nil)
	n.Check(a, 1)
	nc := uint32(1)
	method, body := []byte("GET"), []byte("body")
	for _, e := range examples {
		v := exampleValue(e.alg, e.response)
		ha1 := HA1(e.alg, "Mufasa", "http-auth@example.org", "Circle of Life")
		is.Equal(t, testing.AllocsPerRun(100, func() {
			c, err := ParseCredentials(v)
			if err != nil || !c.Verify(ha1, method, body) {
				t.Fatal("not verified")
			}
			c.QOP = AuthInt
			c.Verify(ha1, method, body)
		}), 0, string(e.alg))
	}
	is.Equal(t, testing.AllocsPerRun(100, func() {
		room = n.Make(room[:0])
		nc++
		if n.Check(a, nc) != Fresh || n.Check(room, 0) == Replayed {
			t.Fatal("not fresh")
		}
	}), 0, "nonces")
}

func BenchmarkVerify(b *testing.B) {
	for _, e := range examples {
		b.Run(string(e.alg), func(b *testing.B) {
			c, _ := ParseCredentials(exampleValue(e.alg, e.response))
			ha1 := HA1(e.alg, "Mufasa", "http-auth@example.org", "Circle of Life")
			method := []byte("GET")
			b.ReportAllocs()
			for b.Loop() {
				c.Verify(ha1, method, nil)
			}
		})
	}
}

func BenchmarkParseCredentials(b *testing.B) {
	v := exampleValue(MD5, examples[0].response)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = ParseCredentials(v)
	}
}

func BenchmarkNonceMake(b *testing.B) {
	n, _ := made(time.Hour)
	room := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		room = n.Make(room[:0])
	}
}

func BenchmarkNonceCheck(b *testing.B) {
	n, _ := made(time.Hour)
	a := n.Make(nil)
	nc := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		nc++
		n.Check(a, nc)
	}
}
