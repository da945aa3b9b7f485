package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fernamt/test/is"
	"fernamt/wire/clock"
	"fernamt/wire/sip"
	"fernamt/wire/transaction"
)

// wire is a link that keeps what is sent.
type wire struct {
	info sip.LinkInfo
	mu   sync.Mutex
	sent []string
	err  error
}

func (w *wire) Send(_ netip.AddrPort, b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.sent = append(w.sent, string(b))
	return nil
}

func (w *wire) Info() *sip.LinkInfo { return &w.info }

func (w *wire) flow() sip.Flow {
	return sip.Flow{Link: w, Remote: netip.MustParseAddrPort("127.0.0.2:5070")}
}

func (w *wire) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sent
	w.sent = nil
	return s
}

func (w *wire) firsts() string {
	var out []string
	for _, s := range w.take() {
		line, _, _ := strings.Cut(s, "\r\n")
		out = append(out, strings.TrimSuffix(strings.TrimPrefix(line, "SIP/2.0 "), " SIP/2.0"))
	}
	return strings.Join(out, " | ")
}

// site is a proxy between a caller and phones, all on links in memory.
type site struct {
	layer *transaction.Layer
	proxy *Proxy
	up    *wire
	plan  func() *Plan
	ctx   *Context
	hops  map[netip.AddrPort]*wire
	slow  time.Duration
	dial  func(h sip.Hop)
	asked string // for whom a way was looked for last
	broke []any  // what goroutines panicked with
	look  func(m *sip.Message, f sip.Flow)
}

func (s *site) Request(m *sip.Message) {
	if m.Method() == sip.ACK {
		p := s.plan()
		s.proxy.Pass(m, p.Element, &p.Targets[0])
		return
	}
	s.ctx = s.proxy.Forward(m, s.plan())
}
func (s *site) Response(*sip.Message) {}

func (s *site) Find(element string, h sip.Hop) (sip.Flow, bool) {
	s.asked = element
	w := s.hops[h.Addr]
	if w == nil || s.slow > 0 {
		return sip.Flow{}, false
	}
	return w.flow(), true
}

func (s *site) Dial(_ context.Context, h sip.Hop) (sip.Flow, error) {
	time.Sleep(s.slow)
	if s.dial != nil {
		s.dial(h)
	}
	if w := s.hops[h.Addr]; w != nil {
		return w.flow(), nil
	}
	return sip.Flow{}, errors.New("refused")
}

func newWire(id uint64) *wire {
	return &wire{info: sip.LinkInfo{ID: id, Transport: sip.UDP, Local: netip.MustParseAddrPort("127.0.0.1:5060")}}
}

func run(t *testing.T, f func(t *testing.T, s *site)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		wheel := clock.NewWheel()
		s := &site{up: newWire(1), hops: map[netip.AddrPort]*wire{}}
		s.layer = transaction.New(transaction.Config{User: s, Wheel: wheel})
		s.proxy = New(Config{Layer: s.layer, Dialer: s, Wheel: wheel, Panicked: func(v any) { s.broke = append(s.broke, v) },
			Leaving: func(m *sip.Message, f sip.Flow) {
				if s.look != nil {
					s.look(m, f)
				}
			}})
		go wheel.Run(ctx)
		f(t, s)
		stop()
		synctest.Wait()
	})
}

func request(t *testing.T, w *wire, method string, n int) *sip.Message {
	return parse(t, w, fmt.Sprintf("%s sip:bob@example.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2:5070;rport;branch=z9hG4bK%d\r\n"+
		"Max-Forwards: 70\r\nFrom: <sip:alice@example.test>;tag=a1\r\nTo: <sip:bob@example.test>\r\nCall-ID: c%d\r\nCSeq: 7 %s\r\nContent-Length: 0\r\n\r\n", method, n, n, method))
}

func parse(t *testing.T, w *wire, text string) *sip.Message {
	t.Helper()
	m := &sip.Message{Flow: w.flow()}
	is.NoErr(t, m.Parse(append(make([]byte, 0, 4096), text...)), text)
	return m
}

// answer makes the phone on w answer what it was sent.
func (s *site) answer(t *testing.T, w *wire, sent string, code int, extra ...string) {
	t.Helper()
	r := parse(t, w, sent)
	s.layer.Receive(parse(t, w, string(sip.AppendResponse(nil, r, code, []byte("b1"), []byte(strings.Join(extra, ""))))))
}

func phones(s *site, n int, groups ...int) []*wire {
	var ws []*wire
	var ts []Target
	for i := range n {
		w := newWire(uint64(i + 2))
		ws = append(ws, w)
		g := 0
		if groups != nil {
			g = groups[i]
		}
		ts = append(ts, Target{URI: fmt.Appendf(nil, "sip:bob@10.0.0.%d", i), Flow: w.flow(), Group: g})
	}
	s.plan = func() *Plan { return &Plan{Element: "test", Targets: ts} }
	return ws
}

func last(t *testing.T, w *wire) string {
	t.Helper()
	sent := w.take()
	if len(sent) == 0 {
		t.Fatal("the phone got nothing")
	}
	return sent[len(sent)-1]
}

func TestOneTarget(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 1)
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		got := last(t, ph[0])
		is.True(t, strings.HasPrefix(got, "INVITE sip:bob@10.0.0.0 SIP/2.0\r\n"), got)
		is.True(t, strings.Contains(got, "Max-Forwards: 69\r\n"), got)
		is.Equal(t, strings.Count(got, "Via:"), 2, got)
		s.answer(t, ph[0], got, 180)
		s.answer(t, ph[0], got, 200)
		s.answer(t, ph[0], got, 200)
		up := s.up.take()
		is.Equal(t, len(up), 4, "100 180 200 and the 200 again")
		is.Equal(t, strings.Count(up[3], "Via:"), 1, up[3])
		s.layer.Receive(request(t, s.up, "ACK", 1))
		is.True(t, strings.HasPrefix(last(t, ph[0]), "ACK sip:bob@10.0.0.0"), "ACK passes")
	})
}

func TestForkParallel(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 3)
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		a, b, c := last(t, ph[0]), last(t, ph[1]), last(t, ph[2])
		is.True(t, strings.Contains(a, "Max-Breadth: 20"), "60 shared by three", a)
		s.answer(t, ph[0], a, 180)
		s.answer(t, ph[1], b, 180)
		s.answer(t, ph[2], c, 486)
		is.Equal(t, s.up.firsts(), "100 Trying | 180 Ringing | 180 Ringing")
		s.answer(t, ph[1], b, 200)
		is.Equal(t, s.up.firsts(), "200 OK")
		cancel := last(t, ph[0])
		is.True(t, strings.HasPrefix(cancel, "CANCEL sip:bob@10.0.0.0"), cancel)
		s.answer(t, ph[0], cancel, 200)
		s.answer(t, ph[0], a, 487)
		is.Equal(t, ph[0].firsts(), "ACK sip:bob@10.0.0.0")
		is.Equal(t, s.up.firsts(), "", "a 487 of a loser stays here")
		s.answer(t, ph[0], a, 200)
		is.Equal(t, s.up.firsts(), "", "after its 487 no 200 can come from it")
	})
}

func TestBothAnswer(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 2)
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		a, b := last(t, ph[0]), last(t, ph[1])
		s.answer(t, ph[0], a, 200)
		s.answer(t, ph[1], b, 200)
		is.Equal(t, s.up.firsts(), "100 Trying | 200 OK | 200 OK", "RFC 3261 §16.7: each 2xx goes up")
	})
}

func TestBestResponse(t *testing.T) {
	for _, c := range []struct {
		codes [3]int
		want  string
	}{
		{[3]int{486, 404, 500}, "486 Busy Here"},
		{[3]int{408, 486, 408}, "486 Busy Here"},
		{[3]int{302, 486, 500}, "302 Moved Temporarily"},
		{[3]int{503, 503, 503}, "500 Server Internal Error"},
		{[3]int{486, 401, 480}, "401 Unauthorized"},
		{[3]int{486, 603, 404}, "603 Decline"},
	} {
		run(t, func(t *testing.T, s *site) {
			ph := phones(s, 3)
			s.layer.Receive(request(t, s.up, "INVITE", 1))
			s.up.take()
			for i, w := range ph {
				s.answer(t, w, last(t, w), c.codes[i])
			}
			is.Equal(t, s.up.firsts(), c.want, fmt.Sprint(c.codes))
		})
	}
}

func TestChallengesGathered(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 2)
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		s.answer(t, ph[0], last(t, ph[0]), 401, "WWW-Authenticate: Digest realm=\"a\"\r\n")
		s.answer(t, ph[1], last(t, ph[1]), 407, "Proxy-Authenticate: Digest realm=\"b\"\r\n")
		got := last(t, s.up)
		is.True(t, strings.Contains(got, `realm="a"`) && strings.Contains(got, `realm="b"`), got)
	})
}

func TestSerial(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 3, 0, 1, 1)
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		a := last(t, ph[0])
		is.Equal(t, ph[1].firsts(), "", "its turn comes later")
		s.answer(t, ph[0], a, 486)
		b := last(t, ph[1])
		last(t, ph[2])
		s.answer(t, ph[1], b, 200)
		is.Equal(t, s.up.firsts(), "100 Trying | 200 OK")
	})
}

func TestRingEnds(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 2, 0, 1)
		inner := s.plan
		s.plan = func() *Plan { p := inner(); p.Ring = 20 * time.Second; return p }
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		a := last(t, ph[0])
		s.answer(t, ph[0], a, 180)
		time.Sleep(21 * time.Second)
		is.True(t, strings.HasPrefix(last(t, ph[0]), "CANCEL"), "the first one is called off")
		b := last(t, ph[1])
		s.answer(t, ph[0], a, 487)
		s.answer(t, ph[1], b, 200)
		is.Equal(t, s.up.firsts(), "100 Trying | 180 Ringing | 200 OK")
	})
}

func TestCancel(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 2)
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		a, b := last(t, ph[0]), last(t, ph[1])
		s.answer(t, ph[0], a, 180)
		s.up.take()
		s.layer.Receive(request(t, s.up, "CANCEL", 1))
		is.Equal(t, s.up.firsts(), "200 OK")
		is.Equal(t, ph[0].firsts(), "CANCEL sip:bob@10.0.0.0")
		is.Equal(t, ph[1].firsts(), "", "it has not answered yet")
		s.answer(t, ph[1], b, 100)
		is.Equal(t, ph[1].firsts(), "CANCEL sip:bob@10.0.0.1")
		s.answer(t, ph[0], a, 487)
		s.answer(t, ph[1], b, 487)
		is.Equal(t, s.up.firsts(), "487 Request Terminated")
	})
}

func TestCancelLostRace(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 1)
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		a := last(t, ph[0])
		s.answer(t, ph[0], a, 180)
		s.layer.Receive(request(t, s.up, "CANCEL", 1))
		s.up.take()
		s.answer(t, ph[0], a, 200)
		is.Equal(t, s.up.firsts(), "200 OK", "the answer was faster")
	})
}

func TestTimerC(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 1)
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		a := last(t, ph[0])
		s.answer(t, ph[0], a, 180)
		time.Sleep(100 * time.Second)
		s.answer(t, ph[0], a, 180)
		time.Sleep(100 * time.Second)
		is.Equal(t, ph[0].firsts(), "", "a 180 starts timer C again")
		time.Sleep(100 * time.Second)
		is.True(t, strings.HasPrefix(ph[0].firsts(), "CANCEL"), "timer C")
		s.up.take()
		time.Sleep(13200 * time.Millisecond)
		is.Equal(t, s.up.firsts(), "487 Request Terminated")
	})
}

func TestNoAnswerAtAll(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		phones(s, 1)
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		s.up.take()
		time.Sleep(33 * time.Second)
		got := s.up.take()
		is.True(t, len(got) > 0 && strings.HasPrefix(got[0], "SIP/2.0 408"), fmt.Sprint(got))
		is.Equal(t, strings.Count(got[0], "Via:"), 1)
		s.layer.Receive(request(t, s.up, "ACK", 1))
		s.layer.Receive(request(t, s.up, "MESSAGE", 2))
		s.up.take()
		time.Sleep(40 * time.Second)
		is.Equal(t, s.up.firsts(), "", "RFC 4320 §4.2: no 408 to what is no INVITE")
		is.Equal(t, s.layer.Stats().Servers, 0)
	})
}

func TestFailover(t *testing.T) {
	one, two, three := netip.MustParseAddrPort("10.0.0.1:5060"), netip.MustParseAddrPort("10.0.0.2:5060"), netip.MustParseAddrPort("10.0.0.3:5060")
	for _, slow := range []time.Duration{0, time.Second} {
		run(t, func(t *testing.T, s *site) {
			s.slow = slow
			s.hops[two], s.hops[three] = newWire(2), newWire(3)
			s.plan = func() *Plan {
				return &Plan{Targets: []Target{{Hops: []sip.Hop{{Addr: one}, {Addr: two}, {Addr: three}}}}}
			}
			s.layer.Receive(request(t, s.up, "INVITE", 1))
			time.Sleep(5 * time.Second)
			a := s.hops[two].take()[0]
			s.answer(t, s.hops[two], a, 503)
			time.Sleep(5 * time.Second)
			b := s.hops[three].take()[0]
			s.answer(t, s.hops[three], b, 200)
			is.Equal(t, s.up.firsts(), "100 Trying | 200 OK", "refused, then 503, then good")
		})
	}
}

func TestUnreachable(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 1)
		ph[0].err = errors.New("closed")
		inner := s.plan
		s.plan = func() *Plan { p := inner(); p.Targets[0].Gone = 480; return p }
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		is.Equal(t, s.up.firsts(), "100 Trying | 480 Temporarily Unavailable")
		s.layer.Receive(request(t, s.up, "ACK", 1))
		s.plan = func() *Plan {
			return &Plan{Targets: []Target{{Hops: []sip.Hop{{Addr: netip.MustParseAddrPort("10.0.0.9:1")}}}}}
		}
		s.layer.Receive(request(t, s.up, "INVITE", 2))
		time.Sleep(100 * time.Millisecond)
		is.Equal(t, s.up.firsts(), "100 Trying | 500 Server Internal Error")
	})
}

func TestConnectionDies(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 1)
		ph[0].info.Transport = sip.TCP
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		s.answer(t, ph[0], last(t, ph[0]), 180)
		s.layer.Gone(ph[0].info.ID)
		is.Equal(t, s.up.firsts(), "100 Trying | 180 Ringing | 500 Server Internal Error")
	})
}

func TestMore(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 2)
		all := s.plan().Targets
		asked := 0
		s.plan = func() *Plan {
			return &Plan{Targets: all[:1], More: func(c *Context, code int) ([]Target, bool) {
				asked++
				switch asked {
				case 1:
					is.Equal(t, code, 486)
					return all[1:], false
				}
				return nil, true
			}}
		}
		s.layer.Receive(request(t, s.up, "INVITE", 1))
		s.answer(t, ph[0], last(t, ph[0]), 486)
		s.answer(t, ph[1], last(t, ph[1]), 480)
		is.Equal(t, s.up.firsts(), "100 Trying", "taken over")
		s.ctx.Finish(202, nil)
		is.Equal(t, s.up.firsts(), "202 Accepted")
	})
}

func TestValidate(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 1)
		m := request(t, s.up, "INVITE", 1)
		is.NoErr(t, s.proxy.Validate(m, "test"))
		m.Set(sip.HMaxForwards, []byte("0"))
		is.Err(t, s.proxy.Validate(m, "test"), "483")
		m.Set(sip.HMaxForwards, []byte("5"))
		m.Add(sip.HProxyRequire, []byte("gruu, foo"))
		is.Err(t, s.proxy.Validate(m, "test", "gruu"), "420")
		// The phone sends the call back as it came: RFC 5393.
		inner := s.plan
		s.plan = func() *Plan { p := inner(); p.Targets[0].URI = nil; return p }
		s.layer.Receive(request(t, s.up, "INVITE", 2))
		back := parse(t, ph[0], last(t, ph[0]))
		is.Err(t, s.proxy.Validate(back, "test"), "482")
		is.NoErr(t, s.proxy.Validate(back, "other role"))
		back.SetRequestURI([]byte("sip:bob@elsewhere.test"))
		is.NoErr(t, s.proxy.Validate(back, "test"), "a spiral is no loop")
	})
}
