package listen

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/ports"
)

// freeNumber is a number that was free a moment ago, on every kind of socket that the tests use.
func freeNumber(t *testing.T) int {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		is.NoErr(t, err)
		n := addrPort(l.Addr()).Port()
		u, uerr := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", n))
		l.Close()
		if uerr == nil {
			u.Close()
			return int(n)
		}
	}
	t.Fatal("no free number")
	return 0
}

func TestCompareKernel(t *testing.T) {
	n := freeNumber(t)
	here := []netip.Addr{ip("127.0.0.1")}
	d := New(Config{Addresses: map[ports.Side][]netip.Addr{ports.Internal: here, ports.Loopback: here}})
	defer d.Close()
	is.NoErr(t, d.Declare("a", []ports.Port{
		door("a/sip", n, "sip"), door("a/udp", n, "sip", udp), door("a/out", 5060, "sip", dial), door("a/dns", 53, "dns", dial, udp),
		door("a/media", 20000, "rtp", drawTo(29999)),
	}))
	same := func(what string) {
		t.Helper()
		diff, err := d.Compare()
		is.NoErr(t, err)
		is.Equal(t, diff.String(), "", what)
	}
	same("nothing open")
	o, err := d.Open("a/sip")
	is.NoErr(t, err)
	u, err := d.Open("a/udp")
	is.NoErr(t, err)
	_, isUDP := u.Packets()[0].PacketConn.(*net.UDPConn)
	is.True(t, isUDP, "the kernel's UDP socket is handed out bare")
	rtp, err := d.Draw("a/media")
	is.NoErr(t, err)
	_, isUDP = rtp.(*net.UDPConn)
	is.True(t, isUDP, "a drawn one too")
	conn, _, err := d.Dial(context.Background(), "a/out", o.Addresses()[0], DialTLS{})
	is.NoErr(t, err)
	defer conn.Close()
	got := accept(t, o)
	hep, err := d.DialPacket(context.Background(), "a/dns", u.Addresses()[0])
	is.NoErr(t, err)
	same("every kind open")
	is.Equal(t, len(d.Live()), 5)

	stray, err := net.Listen("tcp4", "127.0.0.1:0")
	is.NoErr(t, err)
	diff, err := d.Compare()
	is.NoErr(t, err)
	is.Equal(t, diff.String(), fmt.Sprintf("open but not declared: tcp %s\n", stray.Addr()))
	stray.Close()
	u.Packets()[0].Close() // behind our back
	diff, err = d.Compare()
	is.NoErr(t, err)
	is.Equal(t, diff.String(), fmt.Sprintf("listed but not open: udp 127.0.0.1:%d a/udp\n", n))

	for _, c := range []io.Closer{u, rtp, got, hep, conn, o} {
		c.Close()
	}
	same("all closed")
	is.Equal(t, len(d.Live()), 0)
}

func TestParseSocket(t *testing.T) {
	s, ok := parseSocket("   0: 0100007F:13C4 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1145 1 0 100 0 0 10 0")
	is.True(t, ok)
	is.Equal(t, s, kernelSocket{0, at("127.0.0.1:5060"), at("0.0.0.0:0"), stateListening, 1000, 1145})
	s, ok = parseSocket("  1: 00000000000000000000000001000000:0050 0000000000000000FFFF00000100007F:1F90 01 0:0 0:0 0 0 0 7 1")
	is.True(t, ok)
	is.Equal(t, s.local, at("[::1]:80"))
	is.Equal(t, s.remote, at("127.0.0.1:8080"))
	for _, bad := range []string{"", "sl local_address", "0: XX:13C4 0:0 0A 0:0 0:0 0 0 0 1 1", "0: 0100007F 0:0 0A 0:0 0:0 0 0 0 1 1", "0: 01:13C4 0:0 0A 0:0 0:0 0 0 0 1 1"} {
		_, ok := parseSocket(bad)
		is.True(t, !ok, "accepted", bad)
	}
}

// TestKernelFamilies opens a door on both families of this machine, and on what there is when it has no IPv6.
func TestKernelFamilies(t *testing.T) {
	n := freeNumber(t)
	d := New(Config{})
	defer d.Close()
	is.NoErr(t, d.Declare("a", []ports.Port{
		door("a/sip", n, "sip", func(p *ports.Port) { p.Side = ports.Loopback }), door("a/out", n, "sip", dial),
	}))
	o, err := d.Open("a/sip")
	is.NoErr(t, err)
	want := []netip.AddrPort{netip.AddrPortFrom(ip("127.0.0.1"), uint16(n))}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		l.Close()
		want = append(want, netip.AddrPortFrom(ip("::1"), uint16(n)))
	}
	is.Equal(t, o.Addresses(), want)
	for _, to := range want {
		conn, _, err := d.Dial(context.Background(), "a/out", to, DialTLS{})
		is.NoErr(t, err)
		is.Equal(t, accept(t, o).Local, to)
		conn.Close()
	}
}

func TestDialFunc(t *testing.T) {
	h := newHouse(t)
	_, open := h.open(t, Config{}, door("a/pg", 5432, "postgres"), door("a/dns", 53, "dns", udp))
	out := New(Config{Network: h.client, At: map[string][]netip.Addr{"c/pg": {ip("fd00::2"), ip("10.0.0.2")}}})
	is.NoErr(t, out.Declare("c", []ports.Port{door("c/pg", 5432, "postgres", dial), door("c/dns", 53, "dns", dial, udp)}))
	f := out.DialFunc("c/dns", "c/pg")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := f(ctx, "tcp", "10.0.0.1:5432")
	is.NoErr(t, err)
	is.Equal(t, accept(t, open["a/pg"]).Remote.Addr(), ip("10.0.0.2"))
	c.Close()
	c, err = f(ctx, "udp", "10.0.0.1:53")
	is.NoErr(t, err)
	c.Write([]byte("q"))
	n, _, err := open["a/dns"].Packets()[0].ReadFrom(make([]byte, 10))
	is.NoErr(t, err)
	is.Equal(t, n, 1)
	c.Close()
	_, err = f(ctx, "tcp", "db.example.test:5432")
	is.Err(t, err, "not a numeric address")
	_, err = out.DialFunc("c/dns")(ctx, "tcp", "10.0.0.1:53")
	is.Err(t, err, "no tcp door among [c/dns]")
}

func TestUnix(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "control.sock")
	l, err := ListenUnix(path, 0o600)
	is.NoErr(t, err)
	f, err := os.Stat(path)
	is.NoErr(t, err)
	is.Equal(t, f.Mode().Perm(), os.FileMode(0o600))
	_, err = ListenUnix(path, 0o600)
	is.Err(t, err, "is the server running already?")
	c, err := DialUnix(context.Background(), path)
	is.NoErr(t, err)
	c.Close()
	l.Close()
	_, err = DialUnix(context.Background(), path)
	is.Err(t, err, "nobody listens at")

	// What a killed server leaves behind is replaced; anything else is left alone.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	is.NoErr(t, err)
	dead.SetUnlinkOnClose(false)
	dead.Close()
	l, err = ListenUnix(path, 0o600)
	is.NoErr(t, err)
	l.Close()
	is.NoErr(t, os.WriteFile(path, []byte("mine"), 0o600))
	_, err = ListenUnix(path, 0o600)
	is.Err(t, err, "a file of that name is in the way")
	_, err = ListenUnix(filepath.Join(dir, strings.Repeat("x", 110)), 0o600)
	is.Err(t, err, "longer than")
}
