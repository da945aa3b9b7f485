package sip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"fernamt/test/is"
)

var remote = netip.MustParseAddrPort("192.0.2.7:4711")

// parse gives a message that must be right; "\n" stands for CRLF.
func parse(t testing.TB, text string) *Message {
	t.Helper()
	m := &Message{}
	is.NoErr(t, m.Parse([]byte(strings.ReplaceAll(text, "\n", "\r\n"))), text)
	return m
}

// text writes m with "\n" for CRLF.
func text(m *Message) string { return strings.ReplaceAll(string(m.AppendTo(nil)), "\r\n", "\n") }

const short = "OPTIONS sip:a@b SIP/2.0\nVia: SIP/2.0/UDP h1;branch=z9hG4bK1, SIP/2.0/UDP h2\nv: SIP/2.0/TCP h3\n" +
	"Route: <sip:r1;lr>, \"x, y\" <sip:r2;lr>\nFrom: <sip:f@b>;tag=1\nTo: <sip:a@b>\ni: c1\nCSeq: 1 OPTIONS\nX-Own: 1\nx-own: 2\nl: 0\n\n"

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		name     string
		edit     func(m *Message)
		old, new string
	}{
		{"nothing", func(m *Message) {}, "", ""},
		{"set uri", func(m *Message) { m.SetRequestURI([]byte("sip:c@d")) }, "sip:a@b SIP", "sip:c@d SIP"},
		{"uri cannot break the line", func(m *Message) { m.SetRequestURI([]byte("sip:c@d SIP/2.0\r\nX: y")) }, "sip:a@b SIP", "sip:c@d_SIP/2.0__X:_y SIP"},
		{"set known", func(m *Message) { m.Set(HCallID, []byte("c2")) }, "i: c1", "Call-ID: c2"},
		{"set replaces all", func(m *Message) { m.Set(HVia, []byte("x")) }, "Via: SIP/2.0/UDP h1;branch=z9hG4bK1, SIP/2.0/UDP h2\nv: SIP/2.0/TCP h3\n", "Via: x\n"},
		{"set new", func(m *Message) { m.Set(HExpires, []byte("7")) }, "l: 0", "l: 0\nExpires: 7"},
		{"set own", func(m *Message) { m.SetName("X-OWN", []byte("3")) }, "X-Own: 1\nx-own: 2", "X-OWN: 3"},
		{"set by compact name", func(m *Message) { m.SetName("t", []byte("x")) }, "To: <sip:a@b>", "To: x"},
		{"no header within a value", func(m *Message) { m.Set(HCallID, []byte("a\r\nX: y")) }, "i: c1", "Call-ID: a  X: y"},
		{"prepend via", func(m *Message) { m.Prepend(HVia, []byte("x")) }, "Via:", "Via: x\nVia:"},
		{"prepend route", func(m *Message) { m.Prepend(HRoute, []byte("x")) }, "Route:", "Route: x\nRoute:"},
		{"prepend first of its kind", func(m *Message) { m.Prepend(HRecordRoute, []byte("x")) }, "Route:", "Record-Route: x\nRoute:"},
		{"add", func(m *Message) { m.Add(HVia, []byte("x")) }, "l: 0", "l: 0\nVia: x"},
		{"add own", func(m *Message) { m.AddName("X-Own", []byte("3")) }, "l: 0", "l: 0\nX-Own: 3"},
		{"remove", func(m *Message) { m.Remove(HVia) }, "Via: SIP/2.0/UDP h1;branch=z9hG4bK1, SIP/2.0/UDP h2\nv: SIP/2.0/TCP h3\n", ""},
		{"remove own", func(m *Message) { m.RemoveName("x-Own") }, "X-Own: 1\nx-own: 2\n", ""},
		{"remove length", func(m *Message) { m.Remove(HContentLength) }, "l: 0", "Content-Length: 0"},
		{"pop via", func(m *Message) { m.PopFirst(HVia) }, "SIP/2.0/UDP h1;branch=z9hG4bK1, ", ""},
		{"pop via twice", func(m *Message) { m.PopFirst(HVia); m.PopFirst(HVia) }, "Via: SIP/2.0/UDP h1;branch=z9hG4bK1, SIP/2.0/UDP h2\n", ""},
		{"pop route", func(m *Message) { m.PopFirst(HRoute) }, "<sip:r1;lr>, ", ""},
		{"pop all routes", func(m *Message) { m.PopFirst(HRoute); m.PopFirst(HRoute); m.PopFirst(HRoute) }, "Route: <sip:r1;lr>, \"x, y\" <sip:r2;lr>\n", ""},
		{"replace first", func(m *Message) { m.ReplaceFirst(HRoute, []byte("<x>")) }, "<sip:r1;lr>, ", "<x>, "},
		{"replace whole", func(m *Message) { m.ReplaceFirst(HTo, []byte("<x>")) }, "To: <sip:a@b>", "To: <x>"},
		{"replace absent", func(m *Message) { m.ReplaceFirst(HPath, []byte("<x>")) }, "l: 0", "l: 0\nPath: <x>"},
		{"body", func(m *Message) { m.SetBody("text/plain", []byte("hi\r\n")) }, "l: 0\n\n", "Content-Length: 4\nContent-Type: text/plain\n\nhi\n"},
		{"no body", func(m *Message) { m.SetBody("text/plain", []byte("hi")); m.SetBody("", nil) }, "", ""},
		{"prepend, pop", func(m *Message) { m.Prepend(HVia, []byte("x")); m.PopFirst(HVia) }, "", ""},
		{"add, remove", func(m *Message) { m.Add(HPath, []byte("x")); m.Remove(HPath) }, "", ""},
		{"other stays", func(m *Message) { m.Remove(HOther) }, "", ""},
	} {
		m := parse(t, short)
		received := string(m.Bytes())
		c.edit(m)
		is.Equal(t, text(m), strings.Replace(short, c.old, c.new, 1), c.name)
		is.Equal(t, string(m.Bytes()), received, "received octets", c.name)
		if !m.Has(HContentLength) {
			m.Add(HContentLength, []byte("0")) // what writing adds
		}
		again := parse(t, text(m))
		is.Equal(t, again.have, m.have, "what is there", c.name)
		is.Equal(t, again.twice, m.twice, "what is there twice", c.name)
		is.Equal(t, again.n, m.n, "fields", c.name)
	}
}

// Edits beyond the inline table.
func TestManyFields(t *testing.T) {
	var b strings.Builder
	b.WriteString("OPTIONS sip:a@b SIP/2.0\n")
	for i := range 200 {
		fmt.Fprintf(&b, "X-%d: %d\n", i, i)
	}
	b.WriteString("Content-Length: 0\n\n")
	m := parse(t, b.String())
	is.Equal(t, text(m), b.String())
	m.Prepend(HVia, []byte("v"))
	m.RemoveName("X-199")
	m.RemoveName("x-0")
	m.Remove(HContentLength)
	m.PopFirst(HVia)
	is.Equal(t, m.n, 198)
	is.Equal(t, string(m.GetName("X-150")), "150")
	c := m.Clone()
	is.Equal(t, text(c), text(m))
	m.Reset()
	is.Equal(t, m.n, 0)
	is.NoErr(t, m.Parse([]byte(register)))
	is.Equal(t, string(m.AppendTo(nil)), register)
	is.Equal(t, c.n, 198)
}

func TestStampVia(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"SIP/2.0/UDP h;branch=1", "SIP/2.0/UDP h;branch=1;received=192.0.2.7"},
		{"SIP/2.0/UDP 192.0.2.7;branch=1", "SIP/2.0/UDP 192.0.2.7;branch=1"},
		{"SIP/2.0/UDP 192.0.2.7;rport;branch=1", "SIP/2.0/UDP 192.0.2.7;rport=4711;branch=1;received=192.0.2.7"},
		{"SIP/2.0/UDP 10.0.0.1:5060; rport ;branch=1, SIP/2.0/UDP b", "SIP/2.0/UDP 10.0.0.1:5060;branch=1;rport=4711;received=192.0.2.7, SIP/2.0/UDP b"},
		{"SIP/2.0/UDP 192.0.2.7;received=6.6.6.6;branch=1", "SIP/2.0/UDP 192.0.2.7;branch=1"},
		{"SIP/2.0/UDP h;rport", "SIP/2.0/UDP h;rport=4711;received=192.0.2.7"},
		{"SIP/2.0/UDP h;rport;x;rport", "SIP/2.0/UDP h;x;rport=4711;received=192.0.2.7"},
		{"SIP/2.0/UDP h;rport=1;received=6.6.6.6", "SIP/2.0/UDP h;rport=4711;received=192.0.2.7"},
		{"SIP/2.0/UDP [::ffff:192.0.2.7]", "SIP/2.0/UDP [::ffff:192.0.2.7]"},
		{"SIP/2.0/UDP h,", "SIP/2.0/UDP h;received=192.0.2.7"},
		{"nonsense", "nonsense"},
	} {
		m := parse(t, "OPTIONS sip:a@b SIP/2.0\nVia: "+c.in+"\n\n")
		m.Flow.Remote = remote
		m.StampVia()
		is.Equal(t, string(m.Get(HVia)), c.want, c.in)
		m.Flow.Remote = netip.AddrPortFrom(netip.MustParseAddr("::ffff:192.0.2.7"), 4711)
		first := string(m.Get(HVia))
		m.StampVia()
		is.Equal(t, len(m.Get(HVia)), len(first), "again", c.in)
	}
}

// Other goroutines read a clone while its origin's buffer is used anew.
func TestClone(t *testing.T) {
	b := []byte("OPTIONS sip:a@b SIP/2.0\r\nSubject: one\r\n two\r\nVia: SIP/2.0/UDP h\r\n\r\nbody")
	m := &Message{At: 5, Flow: Flow{Remote: remote}}
	is.NoErr(t, m.Parse(b))
	m.Prepend(HVia, []byte("x"))
	c := m.Clone()
	want := string(c.AppendTo(nil))
	clear(b[:cap(b)])
	m.Reset()
	is.Equal(t, m.At, 0)
	done := make(chan string, 4)
	for range cap(done) {
		go func() { done <- string(c.Get(HSubject)) + string(c.Body()) + string(c.AppendTo(nil)) }()
	}
	for range cap(done) {
		is.Equal(t, <-done, "one twobody"+want)
	}
	is.Equal(t, c.At, 5)
	is.Equal(t, c.Flow.Remote, remote)
}
