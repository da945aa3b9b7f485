package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fernamt/core/listen"
	"fernamt/test/is"
	"fernamt/wire/ports"
	"fernamt/wire/proxy"
	"fernamt/wire/sip"
	"fernamt/wire/transport"
)

// book finds one hop for every response.
type book struct {
	hop   sip.Hop
	asked atomic.Int32
}

func (b *book) Cached(sip.URI) ([]sip.Hop, bool)                   { return nil, false }
func (b *book) Locate(context.Context, sip.URI) ([]sip.Hop, error) { return nil, errors.New("none") }
func (b *book) LocateVia(context.Context, sip.Via) ([]sip.Hop, error) {
	b.asked.Add(1)
	return []sip.Hop{b.hop}, nil
}

// RFC 3261 §18.2.2: a final response whose connection is gone goes to the address that
// the request came from, at the port in Via, else where RFC 3263 §5 leads.
func TestResponseGoesAstray(t *testing.T) {
	for _, c := range []struct {
		name, via, listens string
		asked              int32
	}{
		{"source address, port in Via", "phone.y.test:5070", "198.51.100.7:5070", 0},
		{"source address, default port", "10.0.0.1", "198.51.100.7:5060", 0},
		{"where the name leads", "phone.y.test:5070", "203.0.113.5:5080", 1},
		{"not where a number leads", "203.0.113.5:5080", "", 0},
	} {
		sim := listen.NewSim()
		server, phone := sim.Host(netip.MustParseAddr("192.0.2.1")), sim.Host(netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("203.0.113.5"))
		doors := listen.New(listen.Config{Network: server, Addresses: map[ports.Side][]netip.Addr{ports.Internal: {netip.MustParseAddr("192.0.2.1")}}})
		out := ports.Port{Name: "frontend/sip-out", From: 5060, Transport: ports.TCP, Protocol: "sip", Use: ports.Dial, Spec: "-", Purpose: "-", Zweck: "-"}
		is.NoErr(t, doors.Declare("frontend", []ports.Port{out}))
		finder := &book{hop: sip.Hop{Transport: sip.TCP, Addr: netip.MustParseAddrPort("203.0.113.5:5080")}}
		d := newDesk(t, func(c *Config) { c.Doors, c.Finder = doors, finder })
		d.g.DialThrough(out)
		d.g.Trust("frontend", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")})
		begun := make(chan *proxy.Context, 1)
		var m *sip.Message
		d.g.Handle("frontend", func(r *Request) {
			m = r.Clone()
			begun <- d.g.Proxy().Begin(r.Message)
		})
		called := make(chan string, 1)
		if c.listens != "" {
			l, err := phone.Listen(t.Context(), netip.MustParseAddrPort(c.listens))
			is.NoErr(t, err)
			go hear(l, called)
			defer l.Close()
		}
		d.over(t, server, phone, strings.Replace(d.request("MESSAGE", "sip:bob@x.test", "gateway"), "UDP 198.51.100.7;", "TCP "+c.via+";", 1))
		x := <-begun
		until(t, func() bool { return d.g.layer.Stats().Connections == 0 })
		x.Reply(m, 200, nil)
		if c.listens != "" {
			select {
			case text := <-called:
				is.True(t, strings.HasPrefix(text, "SIP/2.0 200 "), c.name, text)
			case <-time.After(5 * time.Second):
				t.Error(c.name, "nobody called")
			}
		}
		until(t, func() bool { return d.g.strays.Load() == 0 })
		is.Equal(t, finder.asked.Load(), c.asked, c.name)
		d.g.layer.Close()
		is.NoErr(t, doors.Close())
	}
}

// over sends text from the phone over a connection that it then closes.
func (d *desk) over(t *testing.T, server, phone *listen.SimHost, text string) {
	t.Helper()
	at := netip.MustParseAddrPort("192.0.2.1:5060")
	l, err := server.Listen(t.Context(), at)
	is.NoErr(t, err)
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = d.g.ServeConn(t.Context(), "frontend", c, sip.LinkInfo{Transport: sip.TCP, Local: at, Door: "frontend/sip-udp"})
		}
	}()
	c, err := phone.Dial(t.Context(), netip.MustParseAddr("198.51.100.7"), at)
	is.NoErr(t, err)
	_, err = fmt.Fprint(c, text)
	is.NoErr(t, err)
	until(t, func() bool { return d.g.stats.requests[sip.MESSAGE].Load() == 1 })
	is.NoErr(t, c.Close())
}

// hear tells what the first caller says.
func hear(l net.Listener, what chan<- string) {
	c, err := l.Accept()
	if err != nil {
		return
	}
	b := make([]byte, 4096)
	n, _ := c.Read(b)
	what <- string(b[:n])
	c.Close()
}

// Neither a slow peer nor a storm makes us dial, nor what no connection can be opened to.
func TestNotEveryResponseIsSentAgain(t *testing.T) {
	d := newDesk(t, nil)
	text := []byte("SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP 198.51.100.7:5070;branch=z9hG4bK1\r\nFrom: <sip:a@x.test>;tag=1\r\nTo: <sip:b@x.test>;tag=2\r\n" +
		"Call-ID: 1\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n")
	gone, slow := errors.New("gone"), fmt.Errorf("send: %w", transport.ErrQueueFull)
	for _, c := range []struct {
		over   sip.Transport
		why    error
		strays int64
		want   bool
	}{
		{sip.TCP, gone, 0, true}, {sip.TCP, slow, 0, false}, {sip.TCP, gone, maxStrays, false}, {sip.TLS, gone, 0, false},
		{sip.WSS, gone, 0, false}, {sip.UDP, gone, 0, false}, {sip.Local, gone, 0, false},
	} {
		d.link.info.Transport = c.over
		d.g.strays.Store(c.strays)
		is.Equal(t, d.g.astray(sip.Flow{Link: d.link, Remote: d.from}, text, c.why), c.want, c.over.String())
		until(t, func() bool { return d.g.strays.Load() == c.strays })
	}
}
