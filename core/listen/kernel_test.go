package listen

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/ports"
)

// TestKernelShared is one number of the real network with everything on it, while a crowd keeps silent there.
func TestKernelShared(t *testing.T) {
	ca := newAuthority(t, "inside")
	n := freeNumber(t)
	d := New(Config{
		Addresses: map[ports.Side][]netip.Addr{ports.Internal: {ip("127.0.0.1")}},
		Keys:      &keys{server: ca.issue(t, "im.example.test", "example.test"), internal: ca.pool},
		Limits:    Limits{Stalled: 100, StalledPerAddress: 100},
	})
	defer d.Close()
	is.NoErr(t, d.Declare("t", []ports.Port{
		door("f/sip", n, "sip"), door("f/sips", n, "sips", server), door("w/https", n, "https", server, names("im.example.test")),
	}))
	open := map[string]*Door{}
	for _, p := range d.Declared() {
		o, err := d.Open(p.Name)
		is.NoErr(t, err)
		open[p.Name] = o
	}
	here := fmt.Sprintf("127.0.0.1:%d", n)
	for range 500 {
		c, err := net.Dial("tcp", here)
		is.NoErr(t, err)
		defer c.Close()
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })}
	defer srv.Close()
	go srv.Serve(open["w/https"].Listener())
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca.pool, ServerName: "im.example.test"}, ForceAttemptHTTP2: true,
	}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: 5 * time.Second}).Get("https://" + here)
	is.NoErr(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	is.NoErr(t, err)
	is.Equal(t, string(b), "HTTP/2.0")

	raw, err := net.Dial("tcp", here)
	is.NoErr(t, err)
	defer raw.Close()
	_, err = io.WriteString(raw, options)
	is.NoErr(t, err)
	sip := accept(t, open["f/sip"])
	is.Equal(t, sip.Protocol, "sip")
	_, err = sip.SyscallConn()
	is.Err(t, err, "do not come from a descriptor") // the request has been read ahead
	_, err = io.ReadFull(sip, make([]byte, len(options)))
	is.NoErr(t, err)
	_, err = sip.SyscallConn()
	is.NoErr(t, err)

	secure, err := tls.Dial("tcp", here, &tls.Config{RootCAs: ca.pool, ServerName: "example.test"})
	is.NoErr(t, err)
	defer secure.Close()
	sips := accept(t, open["f/sips"])
	is.Equal(t, sips.Protocol, "sips", "alone under that name: nothing has to be read first")
	_, err = sips.SyscallConn()
	is.True(t, err != nil, "a TLS connection has octets of its own")
}

// BenchmarkAccept is a plain connection from the dialler's start to the door.
func BenchmarkAccept(b *testing.B) {
	sim := NewSim()
	host := sim.Host(ip("10.0.0.1"))
	d := New(Config{Network: host})
	defer d.Close()
	is.NoErr(b, d.Declare("a", []ports.Port{door("a/sip", 5060, "sip"), door("a/http", 5060, "http")}))
	o, err := d.Open("a/sip")
	is.NoErr(b, err)
	_, err = d.Open("a/http")
	is.NoErr(b, err)
	b.ReportAllocs()
	for b.Loop() {
		c, err := host.Dial(context.Background(), netip.Addr{}, at("10.0.0.1:5060"))
		is.NoErr(b, err)
		io.WriteString(c, options)
		got, err := o.Accept(context.Background())
		is.NoErr(b, err)
		got.Close()
		c.Close()
	}
}
