package listen

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fernamt/test/is"
	"fernamt/wire/ports"
)

func TestSimRules(t *testing.T) {
	pre := netip.MustParsePrefix
	for _, c := range []struct {
		name string
		rule Rule
		want string // of a TCP connection to 5061, "" when it works
		udp  string // how far a datagram to 5060 gets
		took time.Duration
	}{
		{"no rule", Rule{From: pre("192.0.2.0/24")}, "", "answered", 20 * time.Millisecond},
		{"port closed, silent", Rule{Low: 5061}, "timeout", "answered", 3 * time.Second},
		{"port closed, refused", Rule{Low: 5061, Reject: true}, "refused", "answered", 20 * time.Millisecond},
		{"udp alone", Rule{Transport: ports.UDP}, "", "lost", 20 * time.Millisecond},
		{"other direction", Rule{From: pre("10.0.0.1/32")}, "timeout", "arrived", 3 * time.Second},
		{"range", Rule{Low: 5000, High: 6000}, "timeout", "lost", 3 * time.Second},
		{"beside the range", Rule{Low: 5062, High: 6000}, "", "answered", 20 * time.Millisecond},
		{"network", Rule{From: pre("10.0.0.0/24"), To: pre("10.0.0.1/32")}, "timeout", "lost", 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.sim.SetLatency(10 * time.Millisecond)
				lift := h.sim.Stop(c.rule)
				_, open := h.open(t, Config{}, door("f/sip", 5061, "sip"), door("f/udp", 5060, "sip", udp))
				try := func() (time.Duration, error) {
					began := time.Now()
					ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
					defer cancel()
					conn, err := h.client.Dial(ctx, netip.Addr{}, at("10.0.0.1:5061"))
					if err == nil {
						conn.Close()
					}
					return time.Since(began), err
				}
				took, err := try()
				if c.want == "" {
					is.NoErr(t, err)
				} else {
					is.Err(t, err, c.want)
				}
				is.Equal(t, took, c.took)
				is.Equal(t, datagram(t, h, open["f/udp"]), c.udp)
				lift()
				_, err = try()
				is.NoErr(t, err, "without the rule")
				is.Equal(t, datagram(t, h, open["f/udp"]), "answered", "without the rule")
			})
		})
	}
}

// datagram says how far one gets: "lost", "arrived" or "answered".
func datagram(t *testing.T, h *house, o *Door) string {
	t.Helper()
	conn, err := h.client.DialPacket(context.Background(), netip.Addr{}, at("10.0.0.1:5060"))
	is.NoErr(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("hello"))
	is.NoErr(t, err)
	pc := o.Packets()[0].PacketConn
	is.NoErr(t, pc.SetReadDeadline(time.Now().Add(time.Second)))
	b := make([]byte, 100)
	n, from, err := pc.ReadFrom(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "lost"
	}
	is.NoErr(t, err)
	is.Equal(t, string(b[:n]), "hello")
	is.Equal(t, addrPort(from).Addr(), ip("10.0.0.2"))
	_, err = pc.WriteTo([]byte("answer"), from)
	is.NoErr(t, err)
	is.NoErr(t, conn.SetReadDeadline(time.Now().Add(time.Second)))
	n, err = conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "arrived"
	}
	is.NoErr(t, err)
	is.Equal(t, string(b[:n]), "answer")
	return "answered"
}

func TestSimStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.sim.SetLatency(50 * time.Millisecond)
		_, open := h.open(t, Config{}, door("f/sip", 5060, "sip"))
		conn := h.dial(t, "[fd00::1]:5060")
		got := accept(t, open["f/sip"])
		is.Equal(t, got.Remote.Addr(), ip("fd00::2"))

		// More than fits under way: the writer waits for the reader, and all arrives in order.
		sent := strings.Repeat("0123456789", 100_000)
		go func() {
			io.WriteString(conn, sent)
			conn.(*simConn).CloseWrite()
		}()
		b, err := io.ReadAll(got)
		is.NoErr(t, err)
		is.True(t, string(b) == sent, "all arrives in order")
		began := time.Now()
		_, err = got.Write([]byte("late"))
		is.NoErr(t, err)
		_, err = io.ReadFull(conn, make([]byte, 4))
		is.NoErr(t, err, "the other direction is still open")
		is.Equal(t, time.Since(began), 50*time.Millisecond)

		// A rule holds a living connection up; nothing is lost when it is lifted.
		lift := h.sim.Stop(Rule{Low: 5060})
		_, err = got.Write([]byte("held"))
		is.NoErr(t, err)
		is.NoErr(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err = conn.Read(make([]byte, 4))
		var timeout net.Error
		is.True(t, errors.As(err, &timeout) && timeout.Timeout(), "held up")
		is.NoErr(t, conn.SetReadDeadline(time.Time{}))
		time.AfterFunc(time.Second, lift)
		_, err = io.ReadFull(conn, make([]byte, 4))
		is.NoErr(t, err)

		got.Close()
		_, err = conn.Read(make([]byte, 1))
		is.Equal(t, err, io.EOF)
		conn = h.dial(t, "10.0.0.1:5060")
		accept(t, open["f/sip"]).Close()
		_, err = conn.Write([]byte("x"))
		is.Err(t, err, "broken pipe")
	})
}

func TestSimNoListener(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	_, err := h.client.Dial(ctx, netip.Addr{}, at("10.0.0.1:5060"))
	is.Err(t, err, "refused")
	_, err = h.client.Dial(ctx, netip.Addr{}, at("10.0.0.99:5060"))
	is.Err(t, err, "no route")
	_, err = h.client.Dial(ctx, ip("10.0.0.1"), at("10.0.0.1:5060"))
	is.Err(t, err, "cannot assign")
	_, err = h.client.Listen(ctx, at("10.0.0.1:5060"))
	is.Err(t, err, "cannot assign")
	// Loopback is each host's own.
	l, err := h.server.Listen(ctx, at("127.0.0.1:0"))
	is.NoErr(t, err)
	defer l.Close()
	to := addrPort(l.Addr())
	_, err = h.client.Dial(ctx, netip.Addr{}, to)
	is.Err(t, err, "refused")
	c, err := h.server.Dial(ctx, netip.Addr{}, to)
	is.NoErr(t, err)
	c.Close()
}
