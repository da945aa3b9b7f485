package sip

import (
	"net/netip"
	"testing"

	"fernamt/test/is"
)

const register = "REGISTER sip:example.test SIP/2.0\r\n" +
	"Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK-524287-1---f3f2a1b0c9d8e7f6;rport\r\n" +
	"Max-Forwards: 70\r\n" +
	"Contact: <sip:u012345@127.0.0.1:5070;transport=udp>\r\n" +
	"To: <sip:u012345@example.test>\r\n" +
	"From: <sip:u012345@example.test>;tag=6a1b2c3d\r\n" +
	"Call-ID: 81902-1-3f2a1b0c9d8e7f6@127.0.0.1\r\n" +
	"CSeq: 1 REGISTER\r\n" +
	"Expires: 3600\r\n" +
	"Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, MESSAGE, SUBSCRIBE, INFO\r\n" +
	"User-Agent: Phone 4.2.1 rev 33\r\n" +
	"Content-Length: 0\r\n\r\n"

const invite = "INVITE sip:u012345@example.test SIP/2.0\r\n" +
	"Via: SIP/2.0/UDP 127.0.0.1:5071;branch=z9hG4bK-81902-1-0\r\n" +
	"From: \"Alice\" <sip:u000001@example.test>;tag=81902SIPpTag001\r\n" +
	"To: <sip:u012345@example.test>\r\n" +
	"Call-ID: 1-81902@127.0.0.1\r\n" +
	"CSeq: 1 INVITE\r\n" +
	"Contact: <sip:u000001@127.0.0.1:5071>\r\n" +
	"Max-Forwards: 70\r\n" +
	"Subject: Performance Test\r\n" +
	"Content-Type: application/sdp\r\n" +
	"Content-Length: 129\r\n\r\n" +
	"v=0\r\no=user1 53655765 2353687637 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"

const ringing = "SIP/2.0 180 Ringing\r\n" +
	"Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK00000a1f00c0ffee\r\n" +
	"Via: SIP/2.0/UDP 127.0.0.1:5071;branch=z9hG4bK-81902-1-0;received=127.0.0.1\r\n" +
	"Record-Route: <sip:127.0.0.1;lr>\r\n" +
	"From: \"Alice\" <sip:u000001@example.test>;tag=81902SIPpTag001\r\n" +
	"To: <sip:u012345@example.test>;tag=81904SIPpTag011\r\n" +
	"Call-ID: 1-81902@127.0.0.1\r\n" +
	"CSeq: 1 INVITE\r\n" +
	"Contact: <sip:127.0.0.1:5072;transport=UDP>\r\n" +
	"Content-Length: 0\r\n\r\n"

// room gives a buffer with text and spare capacity, as a transport hands it over.
func room(text string) []byte { return append(make([]byte, 0, 4096), text...) }

func from() *Message {
	return &Message{Flow: Flow{Remote: netip.MustParseAddrPort("127.0.0.1:5070")}}
}

func TestNoAllocation(t *testing.T) {
	out := make([]byte, 0, 4096)
	extra := []byte("Contact: <sip:u012345@127.0.0.1:5070>;expires=3600\r\n")
	tag := []byte("abcdef")
	for _, c := range []struct {
		name, text string
		run        func(m *Message)
	}{
		{"parse and check REGISTER", register, func(m *Message) { is.True(t, m.Check() == nil) }},
		{"parse and check INVITE", invite, func(m *Message) { is.True(t, m.Check() == nil) }},
		{"stamp and answer", register, func(m *Message) {
			m.StampVia()
			out = AppendResponse(out[:0], m, 200, tag, extra)
		}},
		{"forward a response", ringing, func(m *Message) {
			m.PopFirst(HVia)
			out = m.AppendTo(out[:0])
		}},
		{"forward a request", invite, func(m *Message) {
			m.StampVia()
			m.Prepend(HVia, tag)
			m.Set(HMaxForwards, tag)
			m.SetRequestURI(tag)
			m.Prepend(HRecordRoute, tag)
			out = m.AppendTo(out[:0])
		}},
		{"read values", register, func(m *Message) {
			is.True(t, m.HasToken(HAllow, "info"))
			n := 0
			for range m.Values(HAllow) {
				n++
			}
			is.True(t, n == 10)
			a, _ := m.Contact()
			is.True(t, len(a.URI.User) == 7)
			_, _ = m.Via()
			is.True(t, string(m.FromTag()) == "6a1b2c3d")
			is.True(t, m.GetName("user-agent") != nil)
			a.URI.Param("transport")
			a.URI.Addr()
		}},
	} {
		b := room(c.text)
		m := from()
		n := testing.AllocsPerRun(200, func() {
			if m.Parse(b) != nil {
				t.Fatal("parse")
			}
			c.run(m)
		})
		is.Equal(t, n, 0, c.name)
	}
}

func BenchmarkParse(b *testing.B) {
	for name, text := range map[string]string{"register": register, "invite": invite, "ringing": ringing} {
		b.Run(name, func(b *testing.B) {
			buf, m := room(text), from()
			b.ReportAllocs()
			for b.Loop() {
				_ = m.Parse(buf)
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	for name, text := range map[string]string{"register": register, "invite": invite} {
		b.Run(name, func(b *testing.B) {
			buf, m := room(text), from()
			_ = m.Parse(buf)
			b.ReportAllocs()
			for b.Loop() {
				_ = m.Check()
			}
		})
	}
}

func BenchmarkStampAnswer(b *testing.B) {
	buf, m := room(register), from()
	out := make([]byte, 0, 4096)
	extra := []byte("Contact: <sip:u012345@127.0.0.1:5070>;expires=3600\r\n")
	b.ReportAllocs()
	for b.Loop() {
		_ = m.Parse(buf)
		m.StampVia()
		out = AppendResponse(out[:0], m, 200, extra[:6], extra)
	}
}

func BenchmarkForwardResponse(b *testing.B) {
	buf, m := room(ringing), from()
	out := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		_ = m.Parse(buf)
		m.PopFirst(HVia)
		out = m.AppendTo(out[:0])
	}
}

func BenchmarkForwardRequest(b *testing.B) {
	buf, m := room(invite), from()
	out := make([]byte, 0, 4096)
	via, hops := []byte("SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK00000a1f00c0ffee"), []byte("69")
	route, target := []byte("<sip:127.0.0.1;lr>"), []byte("sip:u012345@127.0.0.1:5072")
	b.ReportAllocs()
	for b.Loop() {
		_ = m.Parse(buf)
		_ = m.Check()
		m.StampVia()
		m.Prepend(HVia, via)
		m.Set(HMaxForwards, hops)
		m.SetRequestURI(target)
		m.Prepend(HRecordRoute, route)
		out = m.AppendTo(out[:0])
	}
}

func BenchmarkVia(b *testing.B) {
	m := from()
	_ = m.Parse(room(register))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = m.Via()
	}
}

func BenchmarkAddress(b *testing.B) {
	m := from()
	_ = m.Parse(room(register))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = m.Contact()
	}
}

func BenchmarkFromTag(b *testing.B) {
	m := from()
	_ = m.Parse(room(register))
	b.ReportAllocs()
	for b.Loop() {
		_ = m.FromTag()
	}
}
