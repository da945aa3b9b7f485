package listen

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fernamt/test/is"
	"fernamt/wire/ports"
)

// house is a server host and a client host on one simulated network.
type house struct {
	sim    *Sim
	server *SimHost
	client *SimHost
	keys   *keys
	ca     *authority
}

func newHouse(t *testing.T) *house {
	h := &house{sim: NewSim(), ca: newAuthority(t, "inside")}
	h.server = h.sim.Host(ip("10.0.0.1"), ip("fd00::1"))
	h.client = h.sim.Host(ip("10.0.0.2"), ip("fd00::2"))
	h.keys = &keys{server: h.ca.issue(t, "sip.example.test", "example.test", "10.0.0.1"), internal: h.ca.pool}
	return h
}

// open declares doors and opens them, on the server.
func (h *house) open(t *testing.T, c Config, ps ...ports.Port) (*Doors, map[string]*Door) {
	t.Helper()
	c.Network, c.Keys = h.server, h.keys
	d := New(c)
	t.Cleanup(func() { d.Close() })
	is.NoErr(t, d.Declare("test", ps))
	open := map[string]*Door{}
	for _, p := range ps {
		if p.Use == ports.Listen {
			o, err := d.Open(p.Name)
			is.NoErr(t, err)
			open[p.Name] = o
		}
	}
	return d, open
}

func (h *house) dial(t *testing.T, to string) net.Conn {
	t.Helper()
	c, err := h.client.Dial(context.Background(), netip.Addr{}, at(to))
	is.NoErr(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// accept waits for a connection at a door, five seconds at most.
func accept(t *testing.T, o *Door) *Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := o.Accept(ctx)
	is.NoErr(t, err, "accept at", o.Name)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestUndeclared(t *testing.T) {
	d := New(Config{Network: NewSim().Host(ip("10.0.0.1"))})
	defer d.Close()
	_, err := d.Open("frontend/sip")
	is.Err(t, err, `door "frontend/sip" was not declared`)
	_, err = d.Draw("frontend/media")
	is.Err(t, err, "was not declared")
	_, _, err = d.Dial(context.Background(), "frontend/out", at("127.0.0.1:1"), DialTLS{})
	is.Err(t, err, "was not declared")
	is.NoErr(t, d.Declare("frontend", []ports.Port{door("frontend/out", 5060, "sip", dial)}))
	_, err = d.Open("frontend/out")
	is.Err(t, err, "declared to dial, not to listen")
}

func TestClashes(t *testing.T) {
	same := Config{Addresses: map[ports.Side][]netip.Addr{
		ports.Internal: {ip("10.0.0.1")}, ports.External: {ip("10.0.0.1")},
	}}
	apart := Config{Addresses: map[ports.Side][]netip.Addr{
		ports.Internal: {ip("10.0.0.1")}, ports.External: {ip("10.0.0.9")},
	}}
	web := door("webaccess/https", 443, "https", server)
	proxy := door("proxy/https", 443, "https", server, external)
	for _, c := range []struct {
		name   string
		config Config
		a, b   ports.Port
		want   string
	}{
		{"two sides, one address", same, web, proxy, "webaccess/https (tcp 443) and proxy/https (tcp 443) clash"},
		{"two sides, two addresses", apart, web, proxy, ""},
		{"one side", apart, web, door("proxy/https", 443, "https", server), "against webaccess"},
		{"inside a range", apart, door("edge/relay", 50000, "rtp", drawTo(59999)), door("host/x", 50001, "http"),
			"host/x (tcp 50001) stands inside the range of edge/relay"},
		{"same name", apart, web, web, "declared twice"},
		{"offset too far", Config{Offset: 65100}, door("a/b", 5, "sip"), web, "offset 65100 puts webaccess/https (tcp 443) at 65543"},
		{"own fault", apart, web, ports.Port{Name: "x"}, "role/door"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := New(c.config)
			is.NoErr(t, d.Declare("webaccess", []ports.Port{c.a}))
			err := d.Declare("proxy", []ports.Port{c.b})
			if c.want == "" {
				is.NoErr(t, err)
				return
			}
			is.Err(t, err, c.want)
			is.Equal(t, len(d.Declared()), 1, "nothing of a bad list is kept")
		})
	}
}

func TestMoved(t *testing.T) {
	sim := NewSim()
	poor := sim.Host(ip("10.0.0.1")).Unprivileged()
	d := New(Config{Network: poor, Keys: &keys{}})
	defer d.Close()
	is.NoErr(t, d.Declare("test", []ports.Port{
		door("web/https", 443, "https", server), door("edge/sips", 443, "sips", server), door("a/sip", 5060, "sip"),
		door("b/media", 10440, "rtp", drawTo(10449)),
	}))
	for _, n := range []string{"web/https", "edge/sips", "a/sip"} {
		o, err := d.Open(n)
		is.NoErr(t, err)
		if n == "edge/sips" { // shares the moved socket
			is.Equal(t, o.Addresses(), []netip.AddrPort{at("0.0.0.0:10443")})
		}
	}
	is.Equal(t, d.Moved(), []Move{{"web/https", ip("0.0.0.0"), 443, 10443}})
	for range 9 {
		pc, err := d.Draw("b/media")
		is.NoErr(t, err)
		is.True(t, !strings.HasSuffix(pc.LocalAddr().String(), ":10443"), "drew a moved door's number")
	}
	_, err := d.Draw("b/media")
	is.Err(t, err, "every number of the range is taken")
	for _, p := range d.Try(context.Background(), 0) {
		is.Equal(t, p.State, Ours, p.Door)
	}
}

func TestOffset(t *testing.T) {
	h := newHouse(t)
	d, open := h.open(t, Config{Offset: 20000}, door("a/sip", 5060, "sip"), door("a/sip-udp", 5060, "sip", udp),
		door("a/media", 50000, "rtp", drawTo(50009)))
	is.Equal(t, open["a/sip"].Addresses(), []netip.AddrPort{at("0.0.0.0:25060"), at("[::]:25060")})
	is.Equal(t, len(open["a/sip-udp"].Packets()), 2)
	is.Equal(t, open["a/sip-udp"].Packets()[0].Local, at("0.0.0.0:25060"))
	pc, err := d.Draw("a/media")
	is.NoErr(t, err)
	n := addrPort(pc.LocalAddr()).Port()
	is.True(t, n >= 50000 && n <= 50009, "media numbers have no offset")
	is.Equal(t, len(d.Live()), 5)
	pc.Close()
	live := d.Live()
	is.Equal(t, len(live), 4, "a closed media socket is not listed")
	is.Equal(t, live[0].Asked, 5060)
	is.Equal(t, live[0].Doors, []string{"a/sip-udp"})
}

func TestTakenKernel(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(t, err)
	defer l.Close()
	n := addrPort(l.Addr()).Port()
	d := New(Config{At: map[string][]netip.Addr{"a/sip": {ip("127.0.0.1")}, "a/other": {ip("203.0.113.77")}}})
	defer d.Close()
	is.NoErr(t, d.Declare("a", []ports.Port{door("a/sip", int(n), "sip"), door("a/other", int(n), "sip")}))
	_, err = d.Open("a/sip")
	comm, _ := os.ReadFile("/proc/self/comm")
	holder := strings.TrimSpace(string(comm)) + " (pid " + strconv.Itoa(os.Getpid()) + ")"
	is.Err(t, err, "open a/sip: tcp 127.0.0.1:"+strconv.Itoa(int(n))+" is taken by "+holder)
	is.Err(t, err, "--port-offset")
	_, err = d.Open("a/other")
	is.Err(t, err, "does not have that address")
	found := d.Try(context.Background(), 0)
	is.Equal(t, found[0].State, Ours, "taken by this very process")
	is.Equal(t, found[1].State, Broken)
	l.Close()
	is.Equal(t, d.Try(context.Background(), 0)[0].State, Free)
}

func TestTakenSim(t *testing.T) {
	h := newHouse(t)
	l, err := h.server.Listen(context.Background(), at("10.0.0.1:5060"))
	is.NoErr(t, err)
	d := New(Config{Network: h.server})
	defer d.Close()
	is.NoErr(t, d.Declare("a", []ports.Port{door("a/sip", 5060, "sip")}))
	_, err = d.Open("a/sip")
	is.Err(t, err, "taken by simulated host")
	is.Equal(t, d.Try(context.Background(), 0)[0].String(), "a/sip tcp 0.0.0.0:5060: taken by simulated host [10.0.0.1 fd00::1] (pid 1)")
	l.Close()
	_, err = d.Open("a/sip")
	is.NoErr(t, err, "a failed door can be opened later")
}

func TestDoorCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		_, open := h.open(t, Config{}, door("a/sip", 5060, "sip"), door("b/sip", 5060, "sip"))
		ended := make(chan error, 1)
		go func() {
			_, err := open["a/sip"].Accept(context.Background())
			ended <- err
		}()
		synctest.Wait()
		open["a/sip"].Close()
		is.True(t, errors.Is(<-ended, net.ErrClosed), "Accept ends")
		h.dial(t, "10.0.0.1:5060")
		is.Equal(t, accept(t, open["b/sip"]).Door, "b/sip", "the other door of the socket goes on")
		open["b/sip"].Close()
		_, err := h.client.Dial(context.Background(), netip.Addr{}, at("10.0.0.1:5060"))
		is.Err(t, err, "refused")
	})
}

func TestDraw(t *testing.T) {
	h := newHouse(t)
	d, _ := h.open(t, Config{}, door("a/media", 50001, "rtp", drawTo(50009)), door("b/media", 50005, "rtp", drawTo(50012)))
	pair, err := d.DrawAt("a/media", ip("fd00::1"), 2)
	is.NoErr(t, err)
	rtp, rtcp := addrPort(pair[0].LocalAddr()), addrPort(pair[1].LocalAddr())
	is.True(t, rtp.Port()%2 == 0 && rtcp.Port() == rtp.Port()+1, "even, and the next:", rtp.String(), rtcp.String())
	is.True(t, rtp.Port() >= 50002 && rtcp.Port() <= 50009, "inside the range:", rtp.String())
	used := map[uint16]bool{}
	for range 9 {
		pc, err := d.Draw("a/media")
		is.NoErr(t, err)
		n := addrPort(pc.LocalAddr()).Port()
		is.True(t, !used[n], "drawn twice")
		used[n] = true
	}
	_, err = d.Draw("a/media")
	is.Err(t, err, "taken")
	_, err = d.Draw("b/media") // the ranges overlap, and have numbers of their own
	is.NoErr(t, err)
	_, err = d.DrawAt("a/media", ip("10.0.0.1"), 12)
	is.Err(t, err, "no 12 numbers")
}

func TestSharedPackets(t *testing.T) {
	h := newHouse(t)
	d, open := h.open(t, Config{}, door("a/sip", 5060, "sip", udp), door("b/sip", 5060, "sip", udp))
	read := func(o *Door) {
		t.Helper()
		pc := o.Packets()[0].PacketConn
		c, err := h.client.DialPacket(context.Background(), netip.Addr{}, at("10.0.0.1:5060"))
		is.NoErr(t, err)
		defer c.Close()
		c.Write([]byte("x"))
		pc.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, _, err = pc.ReadFrom(make([]byte, 9))
		is.NoErr(t, err)
	}
	read(open["b/sip"])
	is.Equal(t, len(open["a/sip"].Packets()), 0, "the other has it")
	for _, p := range open["b/sip"].Packets() {
		p.Close() // as a reader does that ends
	}
	open["b/sip"].Close()
	read(open["a/sip"])
	b, err := d.Open("b/sip")
	is.NoErr(t, err)
	is.Equal(t, len(b.Packets()), 0)
	open["a/sip"].Close() // without closing the sockets
	read(b)
}
