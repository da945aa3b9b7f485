package sip

import (
	"bytes"
	"testing"

	"fernamt/test/is"
)

func TestVia(t *testing.T) {
	for _, c := range []struct {
		in           string
		transport    Transport
		host         string
		port         uint16
		branch, from string // received and rport
	}{
		{"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", UDP, "192.0.2.1", 0, "z9hG4bK1", " "},
		{"SIP/2.0/TLS 192.0.2.1:5071;rport=99;received=192.0.2.9;branch=b", TLS, "192.0.2.1", 5071, "b", "192.0.2.9 99"},
		{"SIP/2.0/wss df7jal23ls0d.invalid;branch=z9hG4bK56", WSS, "df7jal23ls0d.invalid", 0, "z9hG4bK56", " "},
		{"SIP/2.0/tcp 127.0.0.1:50780", TCP, "127.0.0.1", 50780, "", " "},
		{"SIP  / 2.0\t/ TCP     spindle.example.com :  5062  ;\t branch  =   z9hG4bK9ikj8  ", TCP, "spindle.example.com", 5062, "z9hG4bK9ikj8", " "},
		{"sip/2.0/ws [2001:db8::9:1]:6050;branch=x", WS, "[2001:db8::9:1]", 6050, "x", " "},
		{"SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=x", UDP, "[2001:db8::9:1]", 0, "x", "2001:db8::9:255 "},
		{"SIP/2.0/TLS [::1];received=[2001:db8::9:255]", TLS, "[::1]", 0, "", "[2001:db8::9:255] "},
		{"SIP/2.0/UNKNOWN t4.example.com;branch=z", 0, "t4.example.com", 0, "z", " "},
		{"SIP/2.0/UDP a;maddr=224.2.0.1;rport", UDP, "a", 0, "", " "},
	} {
		v, err := ParseVia([]byte(c.in))
		is.NoErr(t, err, c.in)
		is.Equal(t, v.Transport, c.transport, c.in)
		is.Equal(t, string(v.Host), c.host, c.in)
		is.Equal(t, v.Port, c.port, c.in)
		is.Equal(t, string(v.Branch), c.branch, c.in)
		is.Equal(t, string(v.Version), "2.0", c.in)
		is.Equal(t, v.Cookie(), len(c.branch) > 7 && c.branch[:7] == MagicCookie, c.in)
		from, _ := v.Param("received")
		port, _ := v.Param("rport")
		is.Equal(t, string(from)+" "+string(port), c.from, c.in)
	}
	for _, s := range []string{
		"", "SIP", "SIP/2.0", "SIP/2.0/UDP", "SIP/2.0/UDP ", "SIP/2.0/ a", "XIP/2.0/UDP a", "SIP//UDP a", "SIP/2.0 UDP a", "SIP/2.0/UDP a:", "SIP/2.0/UDP a:x",
		"SIP/2.0/UDP a:70000", "SIP/2.0/UDP a;;", "SIP/2.0/UDP a;", "SIP/2.0/UDP a b", "SIP/2.0/UDP [::1", "SIP/2.0/UDP 2001:db8::1", "SIP/2.0/UDP a;=b", "SIP/2.0/UDP :5060",
	} {
		if v, err := ParseVia([]byte(s)); err == nil {
			t.Errorf("%q is no error: %v", s, v)
		}
	}
}

// What stands for a transport in its name is what TransportOf reads.
func TestTransportOf(t *testing.T) {
	for _, tr := range []Transport{UDP, TCP, TLS, WS, WSS} {
		is.Equal(t, TransportOf([]byte(tr.String())), tr)
	}
	for _, s := range []string{"", "U", "tLx", "SCTP", "xyz", "wsx", "w"} {
		is.Equal(t, TransportOf([]byte(s)), 0, s)
	}
}

func FuzzVia(f *testing.F) {
	f.Add([]byte("SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK1;received=192.0.2.9"))
	f.Add([]byte("SIP  / 2.0\t/ TCP     spindle.example.com :  5062  ;\t branch  =   z9hG4bK9ikj8  "))
	f.Add([]byte("SIP/2.0/TLS [2001:db8::9:1]:6050;branch=x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseVia(b)
		if err != nil || bytes.ContainsAny(b, "\r\n") { // which no header has
			return
		}
		m := NewRequest("OPTIONS", "sip:a@b")
		m.Add(HVia, b)
		m.Flow.Remote = remote
		m.StampVia()
		w, err := m.Via()
		if err != nil { // an element with a comma in a value is two
			return
		}
		is.Equal(t, string(w.Branch), string(v.Branch))
		is.Equal(t, string(w.Host), string(v.Host))
		if p, ok := w.Param("rport"); ok {
			r, _ := w.Param("received")
			is.Equal(t, string(r)+" "+string(p), "192.0.2.7 4711", "answers go back")
		}
	})
}
