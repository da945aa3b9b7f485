package route

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fernamt/test/is"
	"fernamt/wire/proxy"
	"fernamt/wire/sip"
)

func udpSide(link uint64, addr string) side {
	return side{sideUDP, link, netip.MustParseAddrPort(addr)}
}

func TestTokens(t *testing.T) {
	tk, err := newTokens(bytes.Repeat([]byte{7}, 32))
	is.NoErr(t, err)
	other, err := newTokens(bytes.Repeat([]byte{8}, 32))
	is.NoErr(t, err)
	for _, c := range []struct {
		up, down side
		length   int
	}{
		{udpSide(1, "192.0.2.1:5060"), udpSide(7, "198.51.100.255:65535"), 22},
		{udpSide(8, "192.0.2.1:5060"), udpSide(1, "192.0.2.2:1"), 86},
		{udpSide(1, "[2001:db8::1]:5060"), side{kind: sideLink, link: 1 << 63}, 62},
		{side{kind: sideLink, link: 42}, side{}, 38},
		{side{kind: sideLocal, link: 42}, udpSide(1, "192.0.2.1:5060"), 62},
	} {
		b := tk.append(nil, c.up, c.down)
		is.Equal(t, len(b), c.length)
		up, down, ok := tk.read(b)
		is.True(t, ok)
		is.Equal(t, up, c.up)
		is.Equal(t, down, c.down)
		_, _, ok = other.read(b)
		is.True(t, !ok, "another key")
		for i := range b {
			for _, flip := range []byte{1, 4, 32} {
				x := bytes.Clone(b)
				x[i] ^= flip
				if _, _, ok := tk.read(x); ok && i < len(b)-1 { // the last character has spare bits
					t.Errorf("changed at %d and taken: %s", i, x)
				}
			}
			if _, _, ok := tk.read(b[:i]); ok {
				t.Errorf("cut at %d and taken", i)
			}
		}
	}
	_, _, ok := tk.read(bytes.Repeat([]byte("A"), 500))
	is.True(t, !ok)
}

func TestKeyOutlivesRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	one, err := loadKey(dir)
	is.NoErr(t, err)
	two, err := loadKey(dir)
	is.NoErr(t, err)
	is.Equal(t, one, two)
	st, err := os.Stat(filepath.Join(dir, keyName))
	is.NoErr(t, err)
	is.Equal(t, st.Mode().Perm(), os.FileMode(0o600))
	is.NoErr(t, os.WriteFile(filepath.Join(dir, keyName), []byte("short"), 0o600))
	_, err = loadKey(dir)
	is.Err(t, err, "damaged")
}

// dialogDesk is a desk whose transport layer knows the link, with a dialog between
// alice (198.51.100.7) and bob (203.0.113.9).
func dialogDesk(t *testing.T) (d *desk, packets *pipe, token string) {
	d = newDesk(t, nil)
	packets = newPipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- d.g.ServePacket(ctx, "frontend", packets, sip.LinkInfo{ID: 1, Door: "frontend/sip-udp", Local: d.link.info.Local})
	}()
	t.Cleanup(func() { cancel(); is.NoErr(t, <-ended) })
	packets.awaitReader()
	d.g.Handle("frontend", func(r *Request) {
		d.got = append(d.got, r.To)
		r.Onward(nil)
	})
	return d, packets, string(d.g.tokens.append(nil, udpSide(1, "198.51.100.7:5060"), udpSide(1, "203.0.113.9:5080")))
}

func (d *desk) inDialog(method, uri, token string) string {
	return strings.Replace(d.request(method, uri, "alice", "Route: <sip:192.0.2.1:5060;lr;ft="+token+">"),
		"\r\nCall-ID", ";tag=2\r\nCall-ID", 1)
}

// A request within a dialog goes to the flow of the other side, whatever its URI says
// (RFC 5626 §5.3): bob's contact is behind a NAT.
func TestWithinDialog(t *testing.T) {
	d, packets, token := dialogDesk(t)
	for _, c := range []struct{ from, to string }{
		{"198.51.100.7:5060", "203.0.113.9:5080"},
		{"203.0.113.9:5080", "198.51.100.7:5060"},
		{"203.0.113.9:9999", "198.51.100.7:5060"}, // from another port than it listens on
	} {
		d.from = netip.MustParseAddrPort(c.from)
		d.ask(d.inDialog("BYE", "sip:bob@10.0.0.1:5060", token))
		to, text := packets.next(t)
		is.Equal(t, to.String(), c.to)
		is.True(t, strings.HasPrefix(text, "BYE sip:bob@10.0.0.1:5060 SIP/2.0\r\n"), text)
		is.Equal(t, len(header(text, "Route")), 0)
		is.Equal(t, header(text, "Max-Forwards"), []string{"69"})
	}
	d.ask(strings.Replace(d.inDialog("ACK", "sip:bob@10.0.0.1:5060", token), "CSeq: 1 BYE", "CSeq: 1 ACK", 1))
	to, _ := packets.next(t)
	is.Equal(t, to.String(), "198.51.100.7:5060")
}

// A token in other hands: challenged, never relayed.
func TestStrangerWithToken(t *testing.T) {
	d, packets, token := dialogDesk(t)
	d.from = netip.MustParseAddrPort("192.0.2.200:5060")
	code, _ := d.ask(d.inDialog("BYE", "sip:bob@10.0.0.1:5060", token))
	is.Equal(t, code, 407)
	is.Equal(t, len(d.got), 0)
	packets.silent(t)
	// After signing in it may: her phone has a new address.
	uri := "sip:bob@203.0.113.9:5080"
	_, text := d.ask(d.inDialog("BYE", uri, token))
	d.ask(strings.Replace(d.inDialog("BYE", uri, token), "Max-Forwards", d.answer(text, "BYE", uri, secret)+"\r\nMax-Forwards", 1))
	to, _ := packets.next(t)
	is.Equal(t, to.String(), "203.0.113.9:5080")
}

func TestRecordRoute(t *testing.T) {
	d, _, _ := dialogDesk(t)
	up := sip.Flow{Link: d.link, Remote: d.from}
	tcp := &wire{info: sip.LinkInfo{ID: 99, Transport: sip.TCP, Local: netip.MustParseAddrPort("192.0.2.1:5060")}}
	m := sip.NewRequest("INVITE", "sip:bob@x.test")
	d.g.record(m, up, up, &proxy.Target{})
	is.Equal(t, m.Count(sip.HRecordRoute), 1)
	m = sip.NewRequest("INVITE", "sips:bob@x.test")
	d.g.record(m, up, sip.Flow{Link: tcp}, &proxy.Target{})
	var all []string
	for v := range m.Values(sip.HRecordRoute) {
		a, err := sip.ParseAddress(v)
		is.NoErr(t, err)
		tr, _ := a.URI.Param("transport")
		all = append(all, string(a.URI.Scheme)+" "+string(tr))
	}
	is.Equal(t, all, []string{"sips tcp", "sips "}, "RFC 5658: one per side, the near one on top")
}

// Both of a double Record-Route are taken off; another server's with its own token stays.
func TestDoubleRouteTakenOff(t *testing.T) {
	d, packets, token := dialogDesk(t)
	r := "Route: <sip:192.0.2.1:5060;lr;ft=" + token + ">, <sip:192.0.2.1:5061;transport=tls;lr;ft=" + token + ">, <sip:203.0.113.9:5080;lr>"
	d.ask(strings.Replace(d.request("INFO", "sip:bob@10.0.0.1", "alice", r), "\r\nCall-ID", ";tag=2\r\nCall-ID", 1))
	_, text := packets.next(t)
	is.Equal(t, header(text, "Route"), []string{"<sip:203.0.113.9:5080;lr>"})
}

// A strict router puts our Record-Route into the Request-URI (RFC 3261 §16.4).
func TestStrictRouter(t *testing.T) {
	d, packets, token := dialogDesk(t)
	d.ask(strings.Replace(d.request("INFO", "sip:192.0.2.1:5060;lr;ft="+token, "alice", "Route: <sip:bob@10.0.0.1>"), "\r\nCall-ID", ";tag=2\r\nCall-ID", 1))
	to, text := packets.next(t)
	is.Equal(t, to.String(), "203.0.113.9:5080")
	is.True(t, strings.HasPrefix(text, "INFO sip:bob@10.0.0.1 SIP/2.0"), text)
}

// A request along a Path reaches the flow that the token holds, from servers alone.
func TestPathToken(t *testing.T) {
	d, packets, _ := dialogDesk(t)
	token := string(d.g.tokens.append(nil, udpSide(1, "203.0.113.9:5080"), side{}))
	msg := func() string {
		return d.request("MESSAGE", "sip:bob@10.0.0.1", "alice", "Route: <sip:192.0.2.1:5060;lr;ft="+token+";ob>")
	}
	code, _ := d.ask(msg())
	is.Equal(t, code, 407)
	d.link.info.Peer = []string{"fe2.x.test"}
	d.ask(msg())
	to, text := packets.next(t)
	is.Equal(t, to.String(), "203.0.113.9:5080")
	is.Equal(t, len(header(text, "Route")), 0)
}
