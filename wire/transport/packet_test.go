package transport

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// plain hides what a *net.UDPConn can do, as a simulated socket would.
type plain struct{ net.PacketConn }

// phone is a UDP client.
type phone struct {
	net.PacketConn
	t  *testing.T
	to net.Addr
}

func newPhone(t *testing.T, to netip.AddrPort) *phone {
	if to.Addr().IsUnspecified() {
		to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
	}
	host := "127.0.0.1:0"
	if to.Addr().Is6() {
		host = "[::1]:0"
	}
	pc, err := net.ListenPacket("udp", host)
	is.NoErr(t, err)
	t.Cleanup(func() { pc.Close() })
	return &phone{pc, t, net.UDPAddrFromAddrPort(to)}
}

func (p *phone) send(s string) {
	_, err := p.WriteTo([]byte(s), p.to)
	is.NoErr(p.t, err)
}

func (p *phone) read() string {
	b := make([]byte, 70000)
	p.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, _, err := p.ReadFrom(b)
	is.NoErr(p.t, err)
	return string(b[:n])
}

// each runs f for both ways of reading and both families.
func each(t *testing.T, f func(t *testing.T, r *rig, p *phone)) {
	for _, host := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0"} {
		for _, portable := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s portable=%v", host, portable), func(t *testing.T) {
				r := newRig(t, Config{})
				pc, err := net.ListenPacket("udp", host)
				is.NoErr(t, err)
				if portable {
					pc = plain{pc}
				}
				a := r.packet(pc)
				f(t, r, newPhone(t, a))
			})
		}
	}
}

func TestDatagrams(t *testing.T) {
	each(t, func(t *testing.T, r *rig, p *phone) {
		r.on(func(m *sip.Message) {
			v, err := m.Via()
			is.NoErr(t, err)
			port, _ := v.Param("rport")
			own := p.LocalAddr().(*net.UDPAddr).AddrPort()
			is.Equal(t, string(port), fmt.Sprint(own.Port()), "rport")
			is.Equal(t, m.Flow.Remote, own)
			ok(m)
		})
		const n = 60 // what the client's socket surely holds
		for i := range n {
			p.send(options("UDP", fmt.Sprint(i), "", ""))
		}
		for i := range n {
			is.Equal(t, r.next(), fmt.Sprint(i))
			got := p.read()
			is.True(t, strings.HasPrefix(got, "SIP/2.0 200 "), got)
			is.True(t, strings.Contains(got, fmt.Sprintf("Call-ID: %d\r\n", i)), "in order")
		}
		s := r.Stats()
		is.Equal(t, []uint64{s.In[sip.UDP], s.Out[sip.UDP], s.Refused}, []uint64{n, n, 0})
		// From outside a batch, too.
		is.NoErr(t, r.flow().Send([]byte("hello")))
		is.Equal(t, p.read(), "hello")
	})
}

func TestLargestDatagram(t *testing.T) {
	each(t, func(t *testing.T, r *rig, p *phone) {
		head := len(options("UDP", "big", "", strings.Repeat("x", 10000)))
		text := options("UDP", "big", "", strings.Repeat("x", 65507-head+10000))
		is.Equal(t, len(text), 65507)
		r.on(func(m *sip.Message) { is.Equal(t, len(m.Body()), 65507-head+10000) })
		p.send(text)
		is.Equal(t, r.next(), "big")
	})
}

func TestCutDatagram(t *testing.T) {
	for _, portable := range []bool{false, true} {
		r := newRig(t, Config{Limits: Limits{Datagram: 1500}})
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		is.NoErr(t, err)
		if portable {
			pc = plain{pc}
		}
		p := newPhone(t, r.packet(pc))
		p.send(options("UDP", "cut", "", strings.Repeat("x", 1500)))
		is.True(t, strings.HasPrefix(p.read(), "SIP/2.0 513 "), "513")
		p.send(strings.Replace(options("UDP", "ack", "", strings.Repeat("x", 1500)), "OPTIONS", "ACK", 2))
		p.send(options("UDP", "next", "", ""))
		is.Equal(t, r.next(), "next", "neither the cut one nor the ACK is handed up, the ACK is not answered")
		is.Equal(t, r.Stats().TooLarge, uint64(2))
	}
}

func TestKeepalivesOnUDP(t *testing.T) {
	each(t, func(t *testing.T, r *rig, p *phone) {
		for _, s := range []string{"", "\r\n\r\n", "\x00", "\x00\x00\x00\x00", "\r\n"} {
			p.send(s)
		}
		ping, _ := hex.DecodeString("000100002112a442b7e7a701bc34d686fa87dfae")
		p.send(string(ping))
		got := p.read()
		is.Equal(t, hex.EncodeToString([]byte(got))[:4], "0101")
		is.Equal(t, got[8:20], string(ping[8:]))
		p.send("\r\n\r\n" + options("UDP", "after", "", ""))
		is.Equal(t, r.next(), "after")
		is.True(t, until(func() bool { return r.Stats().Keepalives == 6 }), "counted")
	})
}

func TestPingsAreLimited(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{Keepalives: 10}})
	p := newPhone(t, r.udp("127.0.0.1:0"))
	ping, _ := hex.DecodeString("000100002112a442b7e7a701bc34d686fa87dfae")
	for range 100 {
		p.send(string(ping))
	}
	p.send(options("UDP", "end", "", ""))
	is.Equal(t, r.next(), "end")
	n := r.Stats().Keepalives
	is.True(t, n >= 10 && n <= 20, fmt.Sprint(n, " answers")) // two seconds at most
}

func TestBadDatagrams(t *testing.T) {
	each(t, func(t *testing.T, r *rig, p *phone) {
		p.send("junk")
		p.send("SIP/2.0 200 OK\r\nVia: x")
		p.send("\x01\x02\x03")
		p.send(strings.Replace(options("UDP", "v", "", ""), "SIP/2.0\r\n", "SIP/3.0\r\n", 1))
		got := p.read()
		is.True(t, strings.HasPrefix(got, "SIP/2.0 505 "), got)
		is.True(t, strings.Contains(got, "To: <sip:a@example.test>;tag="), "RFC 3261 §8.2.6.2")
		p.send(strings.Replace(options("UDP", "v", "", ""), "SIP/2.0\r\n", "SIP/3.0\r\n", 1))
		is.Equal(t, p.read(), got, "a retransmission gets the same answer")
		p.send(strings.Replace(options("UDP", "l", "", ""), "Content-Length: 0", "Content-Length: 9", 1))
		is.True(t, strings.HasPrefix(p.read(), "SIP/2.0 400 "), "400")
		p.send(options("UDP", "good", "", ""))
		is.Equal(t, r.next(), "good")
	})
}

func TestPanicCostsOneMessage(t *testing.T) {
	r := newRig(t, Config{})
	p := newPhone(t, r.udp("127.0.0.1:0"))
	r.on(func(m *sip.Message) {
		if string(m.CallID()) == "bad" {
			panic("boom")
		}
	})
	p.send(options("UDP", "bad", "", ""))
	p.send(options("UDP", "good", "", ""))
	is.Equal(t, r.next(), "good")
	is.Equal(t, r.Stats().Panics, uint64(1))
}

// One datagram that the kernel refuses does not cost the others of its batch.
func TestRefusedDatagram(t *testing.T) {
	r := newRig(t, Config{})
	p := newPhone(t, r.udp("127.0.0.1:0"))
	begun := make(chan bool)
	r.on(func(m *sip.Message) {
		if string(m.CallID()) == "wait" {
			<-begun
			return
		}
		nowhere := netip.AddrPortFrom(m.Flow.Remote.Addr(), 0)
		big := make([]byte, 65508)
		for i := range 150 { // more than a batch holds
			_ = m.Flow.Send([]byte(fmt.Sprint(i)))
			_ = m.Flow.Link.Send(nowhere, []byte("x"))
		}
		_ = m.Flow.Send(big)
		_ = m.Flow.Link.Send(netip.MustParseAddrPort("[::1]:9"), []byte("x"))
		_ = m.Flow.Send([]byte("end"))
	})
	p.send(options("UDP", "wait", "", ""))
	p.send(options("UDP", "many", "", ""))
	p.send(options("UDP", "wait2", "", ""))
	begun <- true
	for i := range 150 {
		is.Equal(t, p.read(), fmt.Sprint(i))
	}
	is.Equal(t, p.read(), "end")
	is.True(t, until(func() bool { return r.Stats().Refused >= 152 }), fmt.Sprint(r.Stats().Refused))
}

func TestFindSocket(t *testing.T) {
	r := newRig(t, Config{})
	a4 := r.udp("127.0.0.1:0")
	hop := func(s string) sip.Hop { return sip.Hop{Transport: sip.UDP, Addr: netip.MustParseAddrPort(s)} }
	f, found := r.Find(hop("127.0.0.1:9"))
	is.True(t, found && f.Link.Info().Local == a4, "v4")
	_, found = r.Find(hop("[::1]:9"))
	is.True(t, !found, "no v6 socket")
	a6 := r.udp("[::1]:0")
	is.True(t, until(func() bool { return r.Stats().Sockets == 2 }), "two")
	f, found = r.Find(hop("[::1]:9"))
	is.True(t, found && f.Link.Info().Local == a6, "v6")
	f, found = r.Find(hop("[::ffff:127.0.0.1]:9"))
	is.True(t, found && f.Link.Info().Local == a4 && f.Remote.Addr().Is4(), "mapped")
	_, found = r.FindAt("other/door", hop("127.0.0.1:9"))
	is.True(t, !found, "another door's socket")
	g, found := r.ByID(f.Link.Info().ID)
	is.True(t, found && g.Link == f.Link, "by id")
	f, err := r.Dial(t.Context(), hop("127.0.0.1:9"))
	is.True(t, err == nil && f.Link == g.Link, "nothing to open")
	_, err = r.Dial(t.Context(), sip.Hop{Transport: sip.WS, Addr: a4})
	is.True(t, errors.Is(err, ErrNoRoute), "ws is not dialled")
}

func TestReplyFlow(t *testing.T) {
	r := newRig(t, Config{})
	p := newPhone(t, r.udp("127.0.0.1:0"))
	got := make(chan netip.AddrPort, 1)
	r.on(func(m *sip.Message) { got <- m.ReplyFlow().Remote })
	own := p.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, c := range []struct{ via, want string }{
		{"127.0.0.1:9;rport", own.String()},
		{"127.0.0.1:9", "127.0.0.1:9"},
		{"127.0.0.1", "127.0.0.1:5060"},
		{"192.0.2.1:99;maddr=192.0.2.2", "127.0.0.1:99"},
	} {
		p.send(strings.Replace(options("UDP", "x", "", ""), "127.0.0.1:9;branch=z9hG4bKx;rport", c.via+";branch=z9hG4bKx", 1))
		is.Equal(t, (<-got).String(), c.want, c.via)
		r.next()
	}
}

func TestTrace(t *testing.T) {
	r := newRig(t, Config{})
	p := newPhone(t, r.udp("127.0.0.1:0"))
	r.on(ok)
	lines := make(chan string, 10)
	r.SetTrace(func(out bool, f sip.Flow, b []byte) {
		lines <- fmt.Sprint(out, " ", f.Remote, " ", strings.Fields(string(b))[0])
	})
	p.send(options("UDP", "a", "", ""))
	p.read()
	own := p.LocalAddr().String()
	is.Equal(t, []string{<-lines, <-lines}, []string{"false " + own + " OPTIONS", "true " + own + " SIP/2.0"})
	r.SetTrace(nil)
	p.send(options("UDP", "b", "", ""))
	p.read()
	is.Equal(t, len(lines), 0)
}

// No allocation per datagram: read, parse, answer, flush.
func TestNoAllocationOnUDP(t *testing.T) {
	room := make([]byte, 0, 1024)
	r := New(Config{Receive: func(m *sip.Message) {
		_ = m.Flow.Send(sip.AppendResponse(room, m, 200, []byte("x"), nil))
	}})
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	is.NoErr(t, err)
	done := make(chan error, 1)
	go func() { done <- r.ServePacket(t.Context(), pc, sip.LinkInfo{}) }()
	c, err := net.Dial("udp", pc.LocalAddr().String())
	is.NoErr(t, err)
	defer c.Close()
	text, answer := []byte(options("UDP", "a", "", "")), make([]byte, 2048)
	n := testing.AllocsPerRun(2000, func() {
		for range 4 {
			c.Write(text)
		}
		for range 4 {
			c.Read(answer)
		}
	})
	is.True(t, n < 0.5, fmt.Sprint(n, " allocations for 4 datagrams"))
	pc.Close()
	is.Err(t, <-done, "closed")
}

func TestPacing(t *testing.T) {
	r := newRig(t, Config{Pace: 300 * time.Microsecond})
	p := newPhone(t, r.udp("127.0.0.1:0"))
	r.on(ok)
	for i := range 2000 {
		p.send(options("UDP", fmt.Sprint(i), "", ""))
		if i%20 == 19 {
			for range 20 {
				p.read()
			}
		}
	}
	for i := range 2000 {
		is.Equal(t, r.next(), fmt.Sprint(i))
	}
	q := pacer{pause: time.Microsecond}
	for i := range quickRounds + 1 {
		q.pace(1, int64(i))
	}
	is.True(t, q.dense, "dense after quick rounds")
	for range emptyRounds {
		is.True(t, q.dense, "still")
		q.pace(0, 100)
	}
	is.True(t, !q.dense, "and not after empty ones")
}
