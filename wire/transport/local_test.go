package transport

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

func TestLocal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Receive: func(*sip.Message) { t.Error("not for the layer's own receiver") }})
		defer l.Close()
		var got []string
		var kept *sip.Message
		link := l.Local(func(m *sip.Message) {
			if m.IsRequest() {
				kept = m
				_ = m.Flow.Send(sip.AppendResponse(nil, m, 200, []byte("x"), nil))
			}
			got = append(got, fmt.Sprint(m.StatusCode(), string(m.CallID())))
		})
		b := []byte(options("TLS", "a", "", ""))
		is.NoErr(t, link.Send(netip.AddrPort{}, b))
		clear(b) // the link has a copy of its own
		is.NoErr(t, link.Send(netip.AddrPort{}, []byte(options("TLS", "b", "", ""))))
		synctest.Wait()
		is.Equal(t, got, []string{"0a", "0b", "200a", "200b"})
		is.Equal(t, string(kept.CallID()), "b", "a message of its own")
		is.Equal(t, link.Info().Transport, sip.Local)
		is.True(t, link.Info().ID != 0, "has an id")
		is.Equal(t, l.Stats().Queued, int64(0))
	})
}

func TestPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		defer l.Close()
		var a, b []string
		toA, toB := l.Pair(
			func(m *sip.Message) { a = append(a, string(m.CallID())) },
			func(m *sip.Message) {
				b = append(b, string(m.CallID()))
				if m.IsRequest() {
					_ = m.Flow.Send(sip.AppendResponse(nil, m, 200, nil, nil))
				}
			})
		for i := range 100 {
			is.NoErr(t, toB.Send(netip.AddrPort{}, []byte(options("TLS", fmt.Sprint(i), "", ""))))
		}
		synctest.Wait()
		is.Equal(t, len(b), 100)
		is.Equal(t, a, b, "answers come back in order")
		is.True(t, toA != toB, "two links")
	})
}

// A receiver that does not keep up, and one that panics.
func TestLocalBounds(t *testing.T) {
	l := New(Config{Limits: Limits{Queue: 10000}})
	defer l.Close()
	hold := make(chan bool)
	var wg sync.WaitGroup
	link := l.Local(func(m *sip.Message) {
		defer wg.Done()
		if <-hold {
			panic("boom")
		}
	})
	text := []byte(options("TLS", "a", "", strings.Repeat("x", 1000)))
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		wg.Add(1)
		err = link.Send(netip.AddrPort{}, text)
	}
	wg.Done() // for the one that was refused
	is.Equal(t, err, ErrQueueFull)
	is.True(t, n > 20 && n < 60, fmt.Sprint(n))
	hold <- true
	close(hold)
	wg.Wait()
	is.True(t, until(func() bool { return l.Stats().Queued == 0 }), "empty")
	is.Equal(t, l.Stats().Panics, uint64(1))
}
