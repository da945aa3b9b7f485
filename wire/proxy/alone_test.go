package proxy

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

func far(n byte) sip.Hop {
	return sip.Hop{Transport: sip.TCP, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, n}), 5060)}
}

// What panics on a goroutine of a request's own is told, and ends that request alone.
func TestPanicEndsOneRequest(t *testing.T) {
	for _, c := range []struct {
		name string
		plan func() *Plan
	}{
		{"while a way is opened", func() *Plan { return &Plan{Targets: []Target{{Hops: []sip.Hop{far(1)}}}} }},
		{"when more is asked for", func() *Plan {
			return &Plan{Targets: []Target{{Hops: []sip.Hop{far(2)}}}, More: func(*Context, int) ([]Target, bool) { panic("more") }}
		}},
	} {
		run(t, func(t *testing.T, s *site) {
			s.dial = func(h sip.Hop) {
				if h == far(1) {
					panic("dial")
				}
			}
			s.plan = c.plan
			s.layer.Receive(request(t, s.up, "INVITE", 1))
			synctest.Wait()
			is.Equal(t, s.up.firsts(), "100 Trying | 500 Server Internal Error", c.name)
			is.Equal(t, len(s.broke), 1, c.name)
			ph := phones(s, 1)
			s.layer.Receive(request(t, s.up, "MESSAGE", 2))
			s.answer(t, ph[0], last(t, ph[0]), 200)
			is.Equal(t, s.up.firsts(), "200 OK", c.name, "the next request is not concerned")
			time.Sleep(time.Minute)
			is.Equal(t, s.layer.Stats().Servers, 0, c.name)
		})
	}
}

func TestPanicOfPassedACK(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		s.dial = func(sip.Hop) { panic("dial") }
		s.plan = func() *Plan { return &Plan{Targets: []Target{{Hops: []sip.Hop{far(1)}}}} }
		s.layer.Receive(request(t, s.up, "ACK", 1))
		synctest.Wait()
		is.Equal(t, len(s.broke), 1)
	})
}

// Ways are looked for in the name of the element that forwards: each has sockets of its own.
func TestFindForElement(t *testing.T) {
	for _, method := range []string{"MESSAGE", "ACK"} {
		run(t, func(t *testing.T, s *site) {
			w := newWire(7)
			s.hops[far(1).Addr] = w
			s.plan = func() *Plan { return &Plan{Element: "edge", Targets: []Target{{Hops: []sip.Hop{far(1)}}}} }
			s.layer.Receive(request(t, s.up, method, 1))
			is.Equal(t, s.asked, "edge", method)
			is.Equal(t, len(w.take()), 1, method)
		})
	}
}

// Leaving sees requests, ACKs and responses with the flow that they go out by.
func TestLeaving(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 1)
		s.look = func(m *sip.Message, f sip.Flow) {
			if f.Link == ph[0] {
				m.AddName("X-Down", []byte("1"))
			} else {
				m.AddName("X-Up", []byte("1"))
			}
		}
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		got := last(t, ph[0])
		is.True(t, strings.Contains(got, "X-Down: 1") && !strings.Contains(got, "X-Up"), got)
		s.answer(t, ph[0], got, 200)
		got = last(t, s.up)
		is.True(t, strings.Contains(got, "X-Up: 1") && !strings.Contains(got, "X-Down"), got)
		s.layer.Receive(request(t, s.up, "ACK", 1))
		got = last(t, ph[0])
		is.True(t, strings.Contains(got, "X-Down: 1"), got)
	})
}
