package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fernamt/test/is"
	"fernamt/wire/hep"
	"fernamt/wire/sip"
)

type link struct{ info sip.LinkInfo }

func (l *link) Send(netip.AddrPort, []byte) error { return nil }
func (l *link) Info() *sip.LinkInfo               { return &l.info }

func flow(remote string) sip.Flow {
	return sip.Flow{Link: &link{sip.LinkInfo{ID: 1, Transport: sip.UDP, Local: netip.MustParseAddrPort("127.0.0.1:5060"),
		Door: "frontend/sip-udp"}}, Remote: netip.MustParseAddrPort(remote)}
}

const invite = "INVITE sip:bob@example.test SIP/2.0\r\n" +
	"From: <sip:alice@example.test>;tag=1\r\nTo: <sip:bob@example.test>\r\nCall-ID: c1@host\r\nReferred-By: <sip:dave:geheim@example.test>\r\n" +
	"Authorization: Digest username=\"alice\", realm=\"example.test\", nonce=\"NONCE1\",\r\n uri=\"sip:bob@example.test\", response=\"RESPONSE1\",\r\n" +
	" cnonce = \"CNONCE1\", opaque=\"OPAQUE1\", nc=00000001, qop=auth\r\n" +
	"Proxy-Authorization: Basic QUJDREVG\r\n" +
	"Contact: <sip:alice@192.0.2.1:5060>\r\nContent-Length: 9\r\n\r\n" +
	"v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:KEYKEY1\r\na=ice-pwd:ICEPWD1\r\nk=clear:OLDKEY1\r\n" +
	"<x><Password>PASSWORD1</Password><token>TOKEN1</token></x>\r\n"

func TestStar(t *testing.T) {
	got := string(Star([]byte(invite)))
	is.Equal(t, len(got), len(invite))
	for _, secret := range []string{"geheim", "NONCE1", "RESPONSE1", "CNONCE1", "OPAQUE1", "QUJDREVG", "KEYKEY1", "ICEPWD1",
		"OLDKEY1", "PASSWORD1", "TOKEN1"} {
		is.True(t, !strings.Contains(got, secret), secret+" in\n"+got)
	}
	for _, kept := range []string{"INVITE sip:bob@example.test SIP/2.0\r\n", `username="alice"`, `realm="example.test"`,
		"nc=00000001", "qop=auth", "sip:alice@192.0.2.1:5060", "tag=1", "AES_CM_128_HMAC_SHA1_80 inline:*", "</token>"} {
		is.True(t, strings.Contains(got, kept), kept+" not in\n"+got)
	}
	for in, want := range map[string]string{"SIP:a:PW@x": "SIP:a:**@x", "SipS:a:PW@x": "SipS:a:**@x", "sips:a@x:5061": "sips:a@x:5061",
		"<sip:x:5060>, <sip:a:P:W@x>": "<sip:x:5060>, <sip:a:***@x>", "tel:1:2@x": "tel:1:2@x"} {
		is.Equal(t, string(Star([]byte("A sip:b SIP/2.0\r\nTo: "+in+"\r\n\r\n"))), "A sip:b SIP/2.0\r\nTo: "+want+"\r\n\r\n")
	}
	challenge := "SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"x\",nonce=\"N2\",opaque=O2,stale=true\r\n" +
		"Authentication-Info: nextnonce=\"N3\", rspauth=\"R3\"\r\n\r\n"
	is.Equal(t, string(Star([]byte(challenge))), "SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"x\",nonce=\"**\",opaque=**,stale=true\r\n"+
		"Authentication-Info: nextnonce=\"**\", rspauth=\"**\"\r\n\r\n")
}

func FuzzStar(f *testing.F) {
	f.Add([]byte(invite))
	f.Add([]byte("A: sip:"))
	f.Add([]byte("Authorization:\r\n ="))
	f.Add([]byte("\r\n\r\n\xb0PAssword>0")) // lowered, it is longer
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := Star(b); len(got) != len(b) {
			t.Errorf("%d octets became %d", len(b), len(got))
		}
	})
}

func TestListen(t *testing.T) {
	for _, c := range []struct {
		filter string
		hears  bool
	}{
		{"", true}, {"alice", true}, {"ALICE@example.test", true}, {"sip:bob@example.test", true}, {"al", false},
		{"carol", false}, {"example.test", true}, {"ample.test", false}, {"192.0.2.9", true}, {"192.0.2.9:5070", true},
		{"192.0.2.9:5071", false}, {"192.0.2.8", false}, {"c1@host", true},
	} {
		h := NewHub()
		e := h.Listen(c.filter, 1)
		h.SIP(true, flow("192.0.2.9:5070"), []byte(invite))
		is.Equal(t, len(e.C) == 1, c.hears, c.filter)
		e.Close()
		is.True(t, !h.Active(), "nobody listens any more")
	}
}

func TestSlowEar(t *testing.T) {
	h := NewHub()
	slow, other := h.Listen("", 1), h.Listen("", 8)
	for range 3 {
		h.SIP(false, flow("192.0.2.9:5070"), []byte(invite))
	}
	is.Equal(t, slow.Lost.Load(), uint64(2))
	is.Equal(t, len(other.C), 3)
	m := <-other.C
	is.Equal(t, m.Door, "frontend/sip-udp")
	is.Equal(t, m.Out, false)
	slow.Close()
	is.True(t, h.Active(), "one is left")
}

// TestNobodyListens: the hook on the hot path must cost nothing.
func TestNobodyListens(t *testing.T) {
	h, f, b := NewHub(), flow("192.0.2.9:5070"), []byte(invite)
	is.Equal(t, testing.AllocsPerRun(100, func() { h.SIP(true, f, b) }), 0.0)
}

type datagrams struct{ c chan []byte }

func (d datagrams) Write(b []byte) (int, error) { d.c <- bytes.Clone(b); return len(b), nil }

func TestExport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, m := NewHub(), NewMetrics()
		ctx, cancel := context.WithCancel(t.Context())
		out := datagrams{make(chan []byte, 2)}
		sent := m.Counter("hep_sent_total", "")
		go h.Export(ctx, Export{To: out, Agent: 7, Node: "a", Key: "k", Sent: sent, Lost: m.Counter("hep_lost_total", "")})
		synctest.Wait()
		h.SIP(false, flow("192.0.2.9:5070"), []byte(invite))
		p, err := hep.Parse(<-out.c)
		is.NoErr(t, err)
		is.Equal(t, p.Source.String(), "192.0.2.9:5070")
		is.Equal(t, p.Destination.String(), "127.0.0.1:5060")
		is.Equal(t, p.Correlation, "c1@host")
		is.Equal(t, p.IPProtocol, uint8(hep.UDP))
		is.True(t, !bytes.Contains(p.Payload, []byte("RESPONSE1")), "secret exported")
		synctest.Wait()
		is.Equal(t, sent.Value(), uint64(1))
		cancel()
		synctest.Wait()
		is.True(t, !h.Active(), "export ended")
	})
}

func TestMetrics(t *testing.T) {
	m := NewMetrics()
	c := m.Counter("sip_requests_total", "Requests", "method", "INVITE")
	c.Inc()
	is.True(t, m.Counter("sip_requests_total", "Requests", "method", "INVITE") == c, "the same again")
	m.Counter("sip_requests_total", "Requests", "method", "BYE").Add(3)
	m.Gauge("bindings", "Bindings").Set(5)
	m.Read("five", "Five", func() float64 { return 4 })
	m.Read("five", "Five", func() float64 { return 5 })
	m.Table("replies_total", "Replies", "status", func() map[string]float64 { return map[string]float64{"200": 2, "404": 1} })
	h := m.Histogram("setup_seconds", "Set-up")
	h.Observe(3 * time.Millisecond)
	h.Observe(time.Minute)
	m.Gauge("sip_requests_total", "Another kind under the same name").Set(1)

	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	is.Equal(t, rec.Code, 200)
	for _, line := range []string{`fernamt_sip_requests_total{method="INVITE"} 1`, `fernamt_sip_requests_total{method="BYE"} 3`,
		"fernamt_bindings 5", "fernamt_five 5", `fernamt_setup_seconds_bucket{le="0.005"} 1`, "fernamt_setup_seconds_count 2",
		`fernamt_setup_seconds_bucket{le="+Inf"} 2`, `fernamt_replies_total{status="404"} 1`, "go_goroutines", "# HELP fernamt_five Five"} {
		is.True(t, strings.Contains(rec.Body.String(), line+"\n") || strings.Contains(rec.Body.String(), line+" "), "no line "+line)
	}
	is.Equal(t, testing.AllocsPerRun(100, func() { c.Inc(); h.Observe(time.Second) }), 0.0)
	b, err := json.Marshal(m.Samples())
	is.NoErr(t, err)
	is.True(t, strings.Contains(string(b), `{"name":"fernamt_sip_requests_total","labels":{"method":"BYE"},"value":3}`), string(b))
}

func TestLog(t *testing.T) {
	var b bytes.Buffer
	log, level, err := NewLog(&b, "json", "warn")
	is.NoErr(t, err)
	log.Info("quiet")
	is.NoErr(t, level.Set("info"))
	log.Info("heard", "user", "alice")
	is.True(t, !strings.Contains(b.String(), "quiet") && strings.Contains(b.String(), `"msg":"heard","user":"alice"`), b.String())
	is.Equal(t, level.String(), "info")
	_, _, err = NewLog(&b, "xml", "info")
	is.Err(t, err, "text or json")
	is.Err(t, level.Set("loud"), "debug, info, warn or error")
}

func BenchmarkNobodyListens(b *testing.B) {
	h, f, m := NewHub(), flow("192.0.2.9:5070"), []byte(invite)
	b.ReportAllocs()
	for b.Loop() {
		h.SIP(true, f, m)
	}
}
