package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"fernamt/test/is"
	"fernamt/wire/clock"
	"fernamt/wire/sip"
	"fernamt/wire/transaction"
)

// sink is a link that remembers only the last message.
type sink struct {
	info sip.LinkInfo
	last []byte
}

func (s *sink) Send(_ netip.AddrPort, b []byte) error {
	s.last = append(s.last[:0], b...)
	return nil
}
func (s *sink) Info() *sip.LinkInfo { return &s.info }

// relay is a proxy with a caller and a phone on sinks.
type relay struct {
	up, down *sink
	layer    *transaction.Layer
	proxy    *Proxy
	plan     Plan
}

func (r *relay) Request(m *sip.Message) { r.proxy.Forward(m, &r.plan) }
func (r *relay) Response(*sip.Message)  {}

func newRelay(ctx context.Context) *relay {
	local, remote := netip.MustParseAddrPort("127.0.0.1:5060"), netip.MustParseAddrPort("127.0.0.2:5070")
	r := &relay{up: &sink{info: sip.LinkInfo{ID: 1, Transport: sip.UDP, Local: local}}, down: &sink{info: sip.LinkInfo{ID: 2, Transport: sip.UDP, Local: local}}}
	wheel := clock.NewWheel()
	go wheel.Run(ctx)
	r.layer = transaction.New(transaction.Config{User: r, Wheel: wheel})
	r.proxy = New(Config{Layer: r.layer, Wheel: wheel})
	r.plan = Plan{Element: "bench", Targets: []Target{{URI: []byte("sip:bob@127.0.0.2:5070"), Flow: sip.Flow{Link: r.down, Remote: remote}}}}
	return r
}

func appendRequest(b []byte, method string, n int) []byte {
	return fmt.Appendf(b, "%s sip:bob@example.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2:5070;branch=z9hG4bK-%d\r\nMax-Forwards: 70\r\n"+
		"From: <sip:alice@example.test>;tag=a%d\r\nTo: <sip:bob@example.test>\r\nCall-ID: c%d@127.0.0.2\r\nCSeq: 1 %s\r\nContact: <sip:alice@127.0.0.2:5070>\r\n"+
		"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello", method, n, n, n, method)
}

// BenchmarkRelay is one MESSAGE and its 200: parse, two transactions, forward, answer.
func BenchmarkRelay(b *testing.B) {
	r := newRelay(b.Context())
	in, out := make([]byte, 0, 4096), make([]byte, 0, 4096)
	var m, back sip.Message
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.Reset()
		m.Flow = sip.Flow{Link: r.up, Remote: netip.MustParseAddrPort("127.0.0.2:5070")}
		if m.Parse(appendRequest(in, "MESSAGE", i)) != nil {
			b.Fatal("bad request")
		}
		r.layer.Receive(&m)
		m.Reset()
		if m.Parse(append(in[:0], r.down.last...)) != nil {
			b.Fatal("bad forward")
		}
		back.Reset()
		back.Flow = sip.Flow{Link: r.down, Remote: m.Flow.Remote}
		if back.Parse(sip.AppendResponse(out, &m, 200, []byte("b1"), nil)) != nil {
			b.Fatal("bad response")
		}
		r.layer.Receive(&back)
	}
}

// TestResponseAllocatesNothing holds the way of a response through transaction and
// proxy to zero garbage.
func TestResponseAllocatesNothing(t *testing.T) {
	r := newRelay(t.Context())
	in, out := make([]byte, 0, 4096), make([]byte, 0, 4096)
	m := &sip.Message{Flow: sip.Flow{Link: r.up, Remote: netip.MustParseAddrPort("127.0.0.2:5070")}}
	is.NoErr(t, m.Parse(appendRequest(in, "INVITE", 1)))
	r.layer.Receive(m)
	var req, back sip.Message
	is.NoErr(t, req.Parse(append([]byte(nil), r.down.last...)))
	ringing := sip.AppendResponse(nil, &req, 180, []byte("b1"), nil)
	n := testing.AllocsPerRun(100, func() {
		back.Reset()
		back.Flow = sip.Flow{Link: r.down}
		if back.Parse(append(out[:0], ringing...)) != nil {
			t.Fatal("bad response")
		}
		r.layer.Receive(&back)
	})
	is.Equal(t, n, 0, "allocations per forwarded response")
	is.Equal(t, string(r.up.last[:11]), "SIP/2.0 180")
}

// TestMemoryPerTransaction prints what 20,000 relayed MESSAGEs hold for their 32
// seconds: two transactions each, at most 1.5 KiB per transaction.
func TestMemoryPerTransaction(t *testing.T) {
	r := newRelay(t.Context())
	in, out := make([]byte, 0, 4096), make([]byte, 0, 4096)
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	const n = 20000
	before := heap()
	for i := range n {
		var m, back sip.Message
		m.Flow = sip.Flow{Link: r.up, Remote: netip.MustParseAddrPort("127.0.0.2:5070")}
		is.NoErr(t, m.Parse(appendRequest(in, "MESSAGE", i)))
		r.layer.Receive(&m)
		is.NoErr(t, m.Parse(append(in[:0], r.down.last...)))
		back.Flow = sip.Flow{Link: r.down}
		is.NoErr(t, back.Parse(sip.AppendResponse(out, &m, 200, []byte("b1"), nil)))
		r.layer.Receive(&back)
	}
	s := r.layer.Stats()
	held := s.Servers + s.Clients
	per := float64(heap()-before) / float64(held)
	t.Logf("%d transactions held, %.0f octets each", held, per)
	is.True(t, held > n, "transactions are held")
	is.True(t, per < 1536, fmt.Sprintf("%.0f octets per transaction", per))
	runtime.KeepAlive(r)
}
