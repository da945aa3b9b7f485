package dialog

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fernamt/test/is"
	"fernamt/wire/clock"
	"fernamt/wire/sdp"
	"fernamt/wire/sip"
	"fernamt/wire/transaction"
)

// end is one of two agents that are tied together by a line without a network.
type end struct {
	t     *testing.T
	name  string
	agent *Agent
	tx    *transaction.Layer
	line  *line
	media Media

	mu       sync.Mutex
	events   []Event
	calls    []*Call
	requests []*Request
}

// line carries messages to its other end, in order. lose, when set, eats what it likes.
type line struct {
	info sip.LinkInfo
	to   *end
	far  *line
	q    chan []byte
	mu   sync.Mutex
	lose func(m *sip.Message) bool
	log  []string
}

func (l *line) Info() *sip.LinkInfo { return &l.info }

func (l *line) Send(_ netip.AddrPort, b []byte) error {
	m := new(sip.Message)
	if err := m.Parse(append([]byte(nil), b...)); err != nil {
		panic(err)
	}
	what := string(m.MethodName())
	if !m.IsRequest() {
		_, method, _ := m.CSeq()
		what = strings.TrimSpace(string(m.Bytes()[8:11])) + " " + method.String()
	}
	l.mu.Lock()
	lose := l.lose != nil && l.lose(m)
	if lose {
		what += " lost"
	}
	l.log = append(l.log, what)
	l.mu.Unlock()
	if !lose {
		l.q <- append([]byte(nil), b...)
	}
	return nil
}

func (l *line) run() {
	for b := range l.q {
		m := new(sip.Message)
		if m.Parse(b) != nil {
			continue
		}
		m.Flow = sip.Flow{Link: l.far, Remote: l.info.Local}
		if m.IsRequest() {
			m.StampVia()
		}
		l.to.tx.Receive(m)
	}
}

// sent counts what went over the line.
func (l *line) sent(what string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.log {
		if s == what {
			n++
		}
	}
	return n
}

func (l *line) losing(f func(m *sip.Message) bool) {
	l.mu.Lock()
	l.lose = f
	l.mu.Unlock()
}

func (e *end) Call(c *Call) {
	e.mu.Lock()
	e.calls = append(e.calls, c)
	e.mu.Unlock()
}

func (e *end) Request(r *Request) {
	e.mu.Lock()
	e.requests = append(e.requests, r)
	e.mu.Unlock()
}

func (e *end) Event(v Event) {
	e.mu.Lock()
	e.events = append(e.events, v)
	e.mu.Unlock()
}

// saw gives the events of a kind once all is quiet.
func (e *end) saw(k Kind) (list []Event) {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, v := range e.events {
		if v.Kind == k {
			list = append(list, v)
		}
	}
	return list
}

func (e *end) call(t *testing.T) *Call {
	t.Helper()
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.calls) == 0 {
		t.Fatal("no call came")
	}
	return e.calls[len(e.calls)-1]
}

func (e *end) request(t *testing.T) *Request {
	t.Helper()
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.requests) == 0 {
		t.Fatal("no request came")
	}
	return e.requests[len(e.requests)-1]
}

type late struct{ a *Agent }

func (l *late) Request(m *sip.Message)  { l.a.Request(m) }
func (l *late) Response(m *sip.Message) { l.a.Response(m) }

// pair runs f in a bubble with two agents. change may alter their settings first.
func pair(t *testing.T, change func(a, b *Config), f func(t *testing.T, a, b *end)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		wheel := clock.NewWheel()
		done := make(chan struct{})
		go func() { wheel.Run(ctx); close(done) }()
		a, b := &end{t: t, name: "alice"}, &end{t: t, name: "bob"}
		a.line = &line{to: b, q: make(chan []byte, 1000), info: sip.LinkInfo{ID: 1, Transport: sip.UDP, Local: netip.MustParseAddrPort("192.0.2.1:5060")}}
		b.line = &line{to: a, q: make(chan []byte, 1000), info: sip.LinkInfo{ID: 2, Transport: sip.UDP, Local: netip.MustParseAddrPort("192.0.2.2:5060")}}
		a.line.far, b.line.far = b.line, a.line
		var conf [2]Config
		users := [2]*late{{}, {}}
		for i, e := range []*end{a, b} {
			e.media = Fixed(sdp.Session{Address: e.line.info.Local.Addr(), ID: 1, Media: []sdp.Stream{{Kind: "audio", Port: 4000,
				Direction: sdp.SendRecv, Codecs: []sdp.Codec{{Payload: 0, Name: "PCMU", Rate: 8000, Channels: 1}}}}})
			e.tx = transaction.New(transaction.Config{User: users[i], Wheel: wheel})
			conf[i] = Config{Layer: e.tx, User: e,
				Flow: func(*sip.Message) (sip.Flow, error) {
					return sip.Flow{Link: e.line, Remote: e.line.far.info.Local}, nil
				},
				Contact: func(sip.Flow) string { return "<sip:" + e.name + "@" + e.line.info.Local.String() + ">" },
			}
		}
		if change != nil {
			change(&conf[0], &conf[1])
		}
		for i, e := range []*end{a, b} {
			e.agent = New(conf[i])
			users[i].a = e.agent
			go e.line.run()
		}
		f(t, a, b)
		time.Sleep(5 * time.Minute) // every timer is over
		is.Equal(t, a.tx.Stats().Servers+a.tx.Stats().Clients+b.tx.Stats().Servers+b.tx.Stats().Clients, int64(0), "transactions left")
		stop()
		close(a.line.q)
		close(b.line.q)
		<-done
	})
}

// talk sets up a call from a to b.
func talk(t *testing.T, a, b *end) (ca, cb *Call) {
	t.Helper()
	ca = a.agent.Invite(Invite{Target: "sip:bob@192.0.2.2", From: "<sip:alice@example.test>", Media: a.media})
	cb = b.call(t)
	cb.Accept(b.media)
	is.Equal(t, len(a.saw(Answered)), 1)
	is.Equal(t, len(b.saw(Confirmed)), 1)
	return ca, cb
}
