package transaction

import (
	"context"
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

func (w *wire) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sent
	w.sent = nil
	return s
}

// firsts gives the start lines of what was sent since the last look.
func (w *wire) firsts() []string {
	var out []string
	for _, s := range w.take() {
		line, _, _ := strings.Cut(s, "\r\n")
		out = append(out, strings.TrimSuffix(line, " SIP/2.0"))
	}
	return out
}

var (
	local = netip.MustParseAddrPort("127.0.0.1:5060")
	peer  = netip.MustParseAddrPort("127.0.0.2:5070")
)

func newWire(t sip.Transport) *wire {
	return &wire{info: sip.LinkInfo{ID: uint64(t), Transport: t, Local: local}}
}

func (w *wire) flow() sip.Flow { return sip.Flow{Link: w, Remote: peer} }

// desk is a layer with users that write down what they are told.
type desk struct {
	l   *Layer
	mu  sync.Mutex
	log []string
	got func(m *sip.Message)
}

func (d *desk) note(format string, a ...any) {
	d.mu.Lock()
	d.log = append(d.log, fmt.Sprintf(format, a...))
	d.mu.Unlock()
}

func (d *desk) told() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.log
	d.log = nil
	return l
}

func (d *desk) Request(m *sip.Message) {
	d.note("request %s", m.MethodName())
	if d.got != nil {
		d.got(m)
	}
}
func (d *desk) Response(m *sip.Message)          { d.note("stray %d", m.StatusCode()) }
func (d *desk) Cancelled(*Server)                { d.note("cancelled") }
func (d *desk) Ended(_ *Server, err error)       { d.note("ended %v", err) }
func (d *desk) Failed(_ *Client, err error)      { d.note("failed %v", err) }
func (d *desk) answer(_ *Client, m *sip.Message) { d.note("answer %d", m.StatusCode()) }

type caller struct{ *desk }

func (c caller) Response(x *Client, m *sip.Message) { c.answer(x, m) }

// run gives the test a layer in a bubble of its own time.
func run(t *testing.T, f func(t *testing.T, d *desk)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		wheel := clock.NewWheel()
		d := &desk{}
		d.l = New(Config{User: d, Wheel: wheel})
		go wheel.Run(ctx)
		f(t, d)
		stop()
		synctest.Wait()
	})
}

func message(t testing.TB, f sip.Flow, text string) *sip.Message {
	t.Helper()
	m := &sip.Message{Flow: f}
	b := make([]byte, 0, 4096)
	is.NoErr(t, m.Parse(append(b, strings.ReplaceAll(text, "\n", "\r\n")...)))
	return m
}

func request(t testing.TB, f sip.Flow, method, branch string) *sip.Message {
	return message(t, f, method+` sip:bob@example.test SIP/2.0
Via: SIP/2.0/UDP 127.0.0.2:5070;rport`+branch+`
Max-Forwards: 70
From: <sip:alice@example.test>;tag=a1
To: <sip:bob@example.test>
Call-ID: c1
CSeq: 7 `+method+`
Content-Length: 0

`)
}

// reply makes the peer's response to a request that we sent.
func reply(t testing.TB, f sip.Flow, sent string, code int) *sip.Message {
	t.Helper()
	r := message(t, f, strings.ReplaceAll(sent, "\r\n", "\n"))
	m := &sip.Message{Flow: f}
	is.NoErr(t, m.Parse(sip.AppendResponse(nil, r, code, []byte("b1"), nil)))
	return m
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	is.Equal(t, strings.Join(got, " | "), strings.Join(want, " | "), what)
}

func TestClientInviteTimesOut(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		w := newWire(sip.UDP)
		_, err := d.l.Request(request(t, w.flow(), "INVITE", ";branch=z9hG4bKx"), w.flow(), 0, caller{d})
		is.NoErr(t, err)
		time.Sleep(31900 * time.Millisecond)
		is.Equal(t, len(w.take()), 7, "INVITE and timer A at 0.5, 1.5, 3.5, 7.5, 15.5, 31.5")
		time.Sleep(2 * time.Second)
		want(t, "timer B", d.told(), "failed no answer in time")
		is.Equal(t, d.l.Stats().Clients, 0)
	})
}

func TestClientInvite(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		w := newWire(sip.UDP)
		d.l.Request(request(t, w.flow(), "INVITE", ";branch=z9hG4bKx"), w.flow(), 0, caller{d})
		sent := w.take()[0]
		d.l.Receive(reply(t, w.flow(), sent, 100))
		d.l.Receive(reply(t, w.flow(), sent, 180))
		time.Sleep(60 * time.Second)
		want(t, "a ringing phone is not called again", w.firsts())
		d.l.Receive(reply(t, w.flow(), sent, 486))
		d.l.Receive(reply(t, w.flow(), sent, 486))
		want(t, "each final response gets an ACK", w.firsts(), "ACK sip:bob@example.test", "ACK sip:bob@example.test")
		want(t, "the user hears it once", d.told(), "answer 180", "answer 486")
		time.Sleep(33 * time.Second)
		is.Equal(t, d.l.Stats().Clients, 0, "timer D")
		d.l.Receive(reply(t, w.flow(), sent, 486))
		want(t, "late", d.told(), "stray 486")
	})
}

func TestClientAccepted(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		w := newWire(sip.UDP)
		d.l.Request(request(t, w.flow(), "INVITE", ";branch=z9hG4bKx"), w.flow(), 0, caller{d})
		sent := w.take()[0]
		for range 3 {
			d.l.Receive(reply(t, w.flow(), sent, 200))
		}
		want(t, "RFC 6026: each 2xx is told", d.told(), "answer 200", "answer 200", "answer 200")
		time.Sleep(33 * time.Second)
		is.Equal(t, d.l.Stats().Clients, 0, "timer M")
	})
}

func TestClientCancel(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		w := newWire(sip.UDP)
		c, _ := d.l.Request(request(t, w.flow(), "INVITE", ";branch=z9hG4bKx"), w.flow(), 0, caller{d})
		sent := w.take()[0]
		c.Cancel()
		want(t, "no CANCEL before a provisional response", w.firsts())
		d.l.Receive(reply(t, w.flow(), sent, 180))
		cancel := w.take()
		is.Equal(t, len(cancel), 1)
		is.True(t, strings.HasPrefix(cancel[0], "CANCEL sip:bob@example.test"), cancel[0])
		time.Sleep(600 * time.Millisecond)
		want(t, "CANCEL is sent again", w.firsts(), "CANCEL sip:bob@example.test")
		d.l.Receive(reply(t, w.flow(), cancel[0], 200))
		time.Sleep(5 * time.Second)
		want(t, "until it is answered", w.firsts())
		d.l.Receive(reply(t, w.flow(), sent, 487))
		want(t, "", w.firsts(), "ACK sip:bob@example.test")
		want(t, "", d.told(), "answer 180", "answer 487")
	})
}

func TestClientCancelUnanswered(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		w := newWire(sip.UDP)
		c, _ := d.l.Request(request(t, w.flow(), "INVITE", ";branch=z9hG4bKx"), w.flow(), 0, caller{d})
		d.l.Receive(reply(t, w.flow(), w.take()[0], 180))
		c.Cancel()
		time.Sleep(33 * time.Second)
		want(t, "RFC 3261 §9.1: 64*T1 after CANCEL it is over", d.told(), "answer 180", "failed no answer in time")
	})
}

func TestClientOther(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		w := newWire(sip.UDP)
		d.l.Request(request(t, w.flow(), "MESSAGE", ";branch=z9hG4bKx"), w.flow(), 0, caller{d})
		sent := w.take()[0]
		time.Sleep(7600 * time.Millisecond)
		is.Equal(t, len(w.take()), 4, "timer E at 0.5, 1.5, 3.5, 7.5")
		d.l.Receive(reply(t, w.flow(), sent, 200))
		d.l.Receive(reply(t, w.flow(), sent, 200))
		want(t, "once", d.told(), "answer 200")
		time.Sleep(6 * time.Second)
		is.Equal(t, d.l.Stats().Clients, 0, "timer K")
		d.l.Request(request(t, w.flow(), "MESSAGE", ";branch=z9hG4bKx"), w.flow(), 0, caller{d})
		time.Sleep(33 * time.Second)
		want(t, "timer F", d.told(), "failed no answer in time")
	})
}

func TestClientStream(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		w := newWire(sip.TLS)
		d.l.Request(request(t, w.flow(), "MESSAGE", ";branch=z9hG4bKx"), w.flow(), 0, caller{d})
		time.Sleep(10 * time.Second)
		is.Equal(t, len(w.take()), 1, "a stream is not sent twice")
		d.l.Gone(w.info.ID)
		want(t, "the connection is gone", d.told(), "failed transport gave up")
		is.Equal(t, d.l.Stats().Clients, 0)
		w.err = fmt.Errorf("closed")
		_, err := d.l.Request(request(t, w.flow(), "MESSAGE", ";branch=z9hG4bKx"), w.flow(), 0, caller{d})
		is.Err(t, err, "closed")
		is.Equal(t, d.l.Stats().Clients, 0)
	})
}

func TestServerInvite(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		w := newWire(sip.UDP)
		var s *Server
		d.got = func(m *sip.Message) {
			if m.Method() == sip.INVITE {
				s, _ = d.l.Accept(m, d)
				s.Respond(m, 100, nil)
			}
		}
		invite := func() *sip.Message { return request(t, w.flow(), "INVITE", ";branch=z9hG4bKx") }
		d.l.Receive(invite())
		d.l.Receive(invite())
		want(t, "100 again for the INVITE again", w.firsts(), "SIP/2.0 100 Trying", "SIP/2.0 100 Trying")
		s.Respond(invite(), 180, nil)
		d.l.Receive(invite())
		want(t, "180 twice", w.firsts(), "SIP/2.0 180 Ringing", "SIP/2.0 180 Ringing")
		s.Respond(invite(), 404, nil)
		time.Sleep(1600 * time.Millisecond)
		is.Equal(t, len(w.take()), 3, "timer G at 0.5 and 1.5")
		d.l.Receive(request(t, w.flow(), "ACK", ";branch=z9hG4bKx"))
		time.Sleep(10 * time.Second)
		want(t, "quiet after ACK", w.firsts())
		want(t, "the ACK is not the user's", d.told(), "request INVITE", "ended <nil>")
	})
}

func TestServerNoACK(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		w := newWire(sip.UDP)
		m := request(t, w.flow(), "INVITE", ";branch=z9hG4bKx")
		s, _ := d.l.Accept(m, d)
		s.Respond(m, 404, nil)
		time.Sleep(33 * time.Second)
		want(t, "timer H", d.told(), "ended final response unacked")
		is.Equal(t, len(w.take()), 11, "timer G: 0.5 1.5 3.5 7.5 then each 4 s")
	})
}

func TestServerAccepted(t *testing.T) {
	for _, branch := range []string{";branch=z9hG4bKx", ""} { // pidgin-sipe sends none
		run(t, func(t *testing.T, d *desk) {
			w := newWire(sip.UDP)
			m := request(t, w.flow(), "INVITE", branch)
			s, _ := d.l.Accept(m, d)
			s.Respond(m, 200, nil)
			is.NoErr(t, s.Respond(m, 200, nil), "RFC 6026: the 2xx may pass again")
			is.True(t, s.Respond(m, 486, nil) != nil, "no other final response")
			w.take()
			d.l.Receive(request(t, w.flow(), "INVITE", branch))
			want(t, "an INVITE again is absorbed", w.firsts())
			d.l.Receive(request(t, w.flow(), "ACK", branch))
			want(t, "the ACK for a 2xx is the user's", d.told(), "request ACK")
			time.Sleep(33 * time.Second)
			want(t, "timer L", d.told(), "ended <nil>")
		})
	}
}

func TestServerCancel(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		w := newWire(sip.UDP)
		d.l.Receive(request(t, w.flow(), "CANCEL", ";branch=z9hG4bKx"))
		want(t, "", w.firsts(), "SIP/2.0 481 Call/Transaction Does Not Exist")
		m := request(t, w.flow(), "INVITE", ";branch=z9hG4bKx")
		s, _ := d.l.Accept(m, d)
		d.l.Receive(request(t, w.flow(), "CANCEL", ";branch=z9hG4bKx"))
		want(t, "", w.firsts(), "SIP/2.0 200 OK")
		want(t, "", d.told(), "cancelled")
		s.Respond(m, 487, nil)
		d.l.Receive(request(t, w.flow(), "CANCEL", ";branch=z9hG4bKx"))
		want(t, "too late, but answered", w.firsts(), "SIP/2.0 487 Request Terminated", "SIP/2.0 200 OK")
		want(t, "", d.told())
	})
}

func TestServerOther(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		w := newWire(sip.UDP)
		m := func() *sip.Message { return request(t, w.flow(), "MESSAGE", ";branch=z9hG4bKx") }
		s, fresh := d.l.Accept(m(), d)
		is.True(t, fresh)
		_, fresh = d.l.Accept(m(), d)
		is.True(t, !fresh, "one transaction for one request")
		d.l.Receive(m())
		want(t, "nothing to say yet", w.firsts())
		s.Respond(m(), 202, nil)
		d.l.Receive(m())
		want(t, "", w.firsts(), "SIP/2.0 202 Accepted", "SIP/2.0 202 Accepted")
		time.Sleep(33 * time.Second)
		want(t, "timer J", d.told(), "ended <nil>")
		is.Equal(t, d.l.Stats().Servers, 0)

		tcp := newWire(sip.TCP)
		s, _ = d.l.Accept(request(t, tcp.flow(), "MESSAGE", ";branch=z9hG4bKx"), d)
		s.Respond(m(), 200, nil)
		time.Sleep(50 * time.Millisecond)
		want(t, "timer J is zero on a stream", d.told(), "ended <nil>")
	})
}

func TestReplyGoesWhereViaSays(t *testing.T) {
	w := newWire(sip.UDP)
	for via, port := range map[string]uint16{
		"SIP/2.0/UDP 127.0.0.2:4444;branch=z9hG4bK1;rport": 5070, // RFC 3581 §4
		"SIP/2.0/UDP 127.0.0.2:4444;branch=z9hG4bK1":       4444, // RFC 3261 §18.2.2
		"SIP/2.0/UDP 127.0.0.2;branch=z9hG4bK1":            5060,
	} {
		m := message(t, w.flow(), "OPTIONS sip:x@y SIP/2.0\nVia: "+via+"\nFrom: <sip:a@b>;tag=1\nTo: <sip:x@y>\nCall-ID: 1\nCSeq: 1 OPTIONS\n\n")
		is.Equal(t, m.ReplyFlow().Remote.Port(), port, via)
	}
}

func TestBadResponseIsDropped(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		w := newWire(sip.UDP)
		d.l.Request(request(t, w.flow(), "INVITE", ";branch=z9hG4bKx"), w.flow(), 0, caller{d})
		m := reply(t, w.flow(), w.take()[0], 200)
		m.Set(sip.HCSeq, []byte("36893488147419103232 INVITE")) // as in scalarlg.dat
		d.l.Receive(m)
		want(t, "RFC 4475 §3.1.2.5", d.told())
		is.Equal(t, d.l.Stats().Refused, 1)
	})
}

func TestViaNamesTheWayBack(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		for end, w := range map[string]*wire{";rport": newWire(sip.UDP), ";alias": newWire(sip.TLS), "": newWire(sip.TLS)} {
			w.info.Dialled = end == ";alias"
			w.info.Peer = []string{"b.example.test"}
			d.l.Request(request(t, w.flow(), "MESSAGE", ";branch=z9hG4bKx"), w.flow(), 0, caller{d})
			via := strings.Split(w.take()[0], "\r\n")[1]
			is.True(t, strings.HasSuffix(via, end) && strings.Contains(via, ";alias") == (end == ";alias"), via)
		}
	})
}
