package proxy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

func TestUnreachableAnswerIsTheCallers(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 1)
		ph[0].err = errors.New("closed")
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		got := last(t, s.up)
		is.True(t, strings.HasPrefix(got, "SIP/2.0 500 "), "RFC 3261 §16.7: a 503 stays here", got)
		is.Equal(t, strings.Count(got, "Via:"), 1, "the caller's Via alone", got)
		is.True(t, strings.Contains(got, "branch=z9hG4bK1\r\n") || strings.Contains(got, "branch=z9hG4bK1;"), got)
	})
}

func TestTimeoutFromBelowEndsInSilence(t *testing.T) {
	for n := 1; n <= 2; n++ {
		run(t, func(t *testing.T, s *site) {
			ph := phones(s, n)
			s.layer.Receive(request(t, s.up, "MESSAGE", 1))
			for _, w := range ph {
				s.answer(t, w, last(t, w), 408)
			}
			is.Equal(t, s.up.firsts(), "", "RFC 4320 §4.2: no 408 to what is no INVITE")
			time.Sleep(40 * time.Second)
			is.Equal(t, s.layer.Stats().Servers, 0)
		})
	}
}

func TestProvisionalOfNoInviteStays(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 1)
		s.layer.Receive(request(t, s.up, "MESSAGE", 1))
		got := last(t, ph[0])
		s.answer(t, ph[0], got, 180)
		is.Equal(t, s.up.firsts(), "", "RFC 4320 §4.1")
		s.answer(t, ph[0], got, 200)
		is.Equal(t, s.up.firsts(), "200 OK")
	})
}

// alice is busy and forwards to bob, who does not answer: that is what her server must hear.
func TestMoreHearsOfTheLastRound(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 3)
		all := s.plan().Targets
		var heard []int
		s.plan = func() *Plan {
			return &Plan{Targets: all[:1], Ring: 20 * time.Second, More: func(_ *Context, code int) ([]Target, bool) {
				heard = append(heard, code)
				if n := len(heard); n < len(all) {
					return all[n : n+1], false
				}
				return nil, false
			}}
		}
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		s.answer(t, ph[0], last(t, ph[0]), 486)
		b := last(t, ph[1])
		s.answer(t, ph[1], b, 180)
		time.Sleep(21 * time.Second)
		s.answer(t, ph[1], b, 487)
		s.answer(t, ph[2], last(t, ph[2]), 404)
		is.Equal(t, heard, []int{486, 408, 404})
		is.Equal(t, s.up.firsts(), "100 Trying | 180 Ringing | 486 Busy Here", "the best of all rounds goes up")
	})
}

// Each round rings as long as its own targets say.
func TestRingOfTargets(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 3)
		all := s.plan().Targets
		all[0].Ring = 10 * time.Second
		n := 0
		s.plan = func() *Plan {
			return &Plan{Targets: all[:1], More: func(*Context, int) ([]Target, bool) { n++; return all[n : n+1], false }}
		}
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		a := last(t, ph[0])
		s.answer(t, ph[0], a, 180)
		time.Sleep(11 * time.Second)
		s.answer(t, ph[0], a, 487)
		b := last(t, ph[1])
		s.answer(t, ph[1], b, 180)
		time.Sleep(60 * time.Second)
		is.Equal(t, ph[1].firsts(), "", "the second one may ring on")
		s.answer(t, ph[1], b, 200)
		is.Equal(t, s.up.firsts(), "100 Trying | 180 Ringing | 180 Ringing | 200 OK")
	})
}

func TestLateRingingIsNotTold(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 2, 0, 1)
		inner := s.plan
		s.plan = func() *Plan { p := inner(); p.Ring = 10 * time.Second; return p }
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		a := last(t, ph[0])
		time.Sleep(11 * time.Second)
		s.up.take()
		s.answer(t, ph[0], a, 180)
		is.Equal(t, s.up.firsts(), "", "it was given up before")
		is.True(t, strings.HasPrefix(last(t, ph[0]), "CANCEL"), "and is called off now")
	})
}

// A flow is the only way, whatever hops stand beside it.
func TestFlowBesideHops(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 1)
		inner := s.plan
		s.plan = func() *Plan { p := inner(); p.Targets[0].Hops = make([]sip.Hop, 2); return p }
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		s.answer(t, ph[0], last(t, ph[0]), 503)
		is.Equal(t, s.up.firsts(), "100 Trying | 500 Server Internal Error")
	})
}

func TestNoBreadthLeft(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 1)
		m := request(t, s.up, "INVITE", 1)
		m.SetName("Max-Breadth", []byte("0"))
		s.layer.Receive(m)
		is.Equal(t, ph[0].firsts(), "")
		is.Equal(t, s.up.firsts(), "100 Trying | 440 Max-Breadth Exceeded", "RFC 5393 §5.3.3")
	})
}

// The next hop is a strict router: RFC 3261 §16.6 step 6, and §16.12.1.2 for the example.
func TestStrictRouterNext(t *testing.T) {
	for _, c := range []struct{ routes, uri, want string }{
		{"<sip:p2.test>, <sip:p3.test;lr>", "sip:p2.test", "Route: <sip:p3.test;lr>|Route: <sip:bob@10.0.0.0>"},
		{"<sip:p2.test;transport=tcp>", "sip:p2.test;transport=tcp", "Route: <sip:bob@10.0.0.0>"},
		{"<sip:p2.test;lr>", "sip:bob@10.0.0.0", "Route: <sip:p2.test;lr>"},
		{"<sip:p2.test;lr=on>;x=y", "sip:bob@10.0.0.0", "Route: <sip:p2.test;lr=on>;x=y"},
	} {
		run(t, func(t *testing.T, s *site) {
			ph := phones(s, 1)
			m := request(t, s.up, "MESSAGE", 1)
			m.Add(sip.HRoute, []byte(c.routes))
			s.layer.Receive(m)
			got := last(t, ph[0])
			is.True(t, strings.HasPrefix(got, "MESSAGE "+c.uri+" SIP/2.0\r\n"), c.routes, got)
			var routes []string
			for _, l := range strings.Split(got, "\r\n") {
				if strings.HasPrefix(l, "Route:") {
					routes = append(routes, l)
				}
			}
			is.Equal(t, strings.Join(routes, "|"), c.want)
		})
	}
}
