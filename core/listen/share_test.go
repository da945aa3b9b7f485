package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fernamt/test/is"
	"fernamt/wire/ports"
)

const options = "OPTIONS sip:example.test SIP/2.0\r\nVia: SIP/2.0/TCP 10.0.0.2\r\n\r\n"

// The first octets of a STUN request (RFC 8489 §5).
const binding = "\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl"

func TestFirstOctets(t *testing.T) {
	for _, c := range []struct {
		first string
		want  ports.Family
		need  int // octets after which it is known
	}{
		{options, ports.SIP, 12},
		{"SIP/2.0 200 OK\r\n", ports.SIP, 5},
		{"\r\n\r\n", ports.SIP, 1},
		{"INVITE sips:a@b SIP/2.0", ports.SIP, 12},
		{"NOTIFY tel:+49 SIP/2.0", ports.SIP, 11},
		{"x-odd'name~ urn:x SIP/2.0", ports.SIP, 16},
		{"OPTIONS * HTTP/1.1", ports.HTTP, 9},
		{"GET / HTTP/1.1", ports.HTTP, 5},
		{"GET http://a/ HTTP/1.1", ports.HTTP, 9},
		{"CONNECT example.test:443 HTTP/1.1", ports.HTTP, 9},
		{"PRI * HTTP/2.0\r\n", ports.HTTP, 5},
		{binding, ports.TURN, 1},
		{"\x03\x00\x00\x10", ports.TURN, 1},
		{"\x16\x03\x01\x02\x00", ports.Other, 1},
		{"\x80\x2e\x01", ports.Other, 1},
		{"{\"json\":1}", ports.Other, 1},
		{strings.Repeat("A", 100), ports.Other, 65},
		{"GET " + strings.Repeat("a", 100), ports.Other, 65},
	} {
		for n := 1; n <= len(c.first); n++ {
			f, ok := familyOf([]byte(c.first[:n]))
			is.Equal(t, ok, n >= c.need, c.first[:n])
			if ok {
				is.Equal(t, f, c.want, c.first[:n])
			}
		}
	}
}

func TestShareInClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		_, open := h.open(t, Config{}, door("f/sip", 80, "sip"), door("w/http", 80, "http"), door("e/turn", 80, "turn"))
		for _, c := range []struct{ first, door string }{
			{options, "f/sip"}, {"GET / HTTP/1.1\r\n\r\n", "w/http"}, {binding, "e/turn"}, {"\r\n\r\n" + options, "f/sip"},
		} {
			conn := h.dial(t, "[fd00::1]:80")
			for _, b := range []byte(c.first) { // an octet at a time
				if _, err := conn.Write([]byte{b}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			got := accept(t, open[c.door])
			is.Equal(t, got.Door, c.door)
			is.Equal(t, got.Local, at("[fd00::1]:80"))
			b := make([]byte, len(c.first))
			_, err := io.ReadFull(got, b)
			is.NoErr(t, err)
			is.Equal(t, string(b), c.first, "nothing is lost of what was read ahead")
		}
		conn := h.dial(t, "10.0.0.1:80")
		_, err := conn.Write([]byte("{\"what\":1}"))
		is.NoErr(t, err)
		_, err = conn.Read(make([]byte, 1))
		is.Equal(t, err, io.EOF, "what nobody knows is closed")
	})
}

// shared443 is the port that half the suite wants.
func shared443() []ports.Port {
	return []ports.Port{
		door("edge/sips", 443, "sips", server, external), door("edge/turns", 443, "turns", server, external),
		door("web/https", 443, "https", server, external, names("im.example.test")),
		door("proxy/https", 443, "https", server, external, names("web.example.test")),
		door("edge/turn", 443, "turn", external),
	}
}

func TestShareTLS(t *testing.T) {
	h := newHouse(t)
	_, open := h.open(t, Config{}, shared443()...)
	for _, c := range []struct {
		name, sni string
		alpn      []string
		first     string
		door      string
		agreed    string
	}{
		{"by server name", "im.example.test", nil, "", "web/https", ""},
		{"by server name, other", "WEB.example.test", []string{"http/1.1"}, "", "proxy/https", "http/1.1"},
		{"by ALPN", "sip.example.test", []string{"sip/2"}, "", "edge/sips", "sip/2"},
		{"by ALPN, turn", "example.test", []string{"stun.turn"}, "", "edge/turns", "stun.turn"},
		{"by first octets within", "example.test", nil, options, "edge/sips", ""},
		{"by first octets within, turn", "example.test", []string{"unheard/1"}, binding, "edge/turns", ""},
		{"in clear", "-", nil, binding, "edge/turn", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := h.dial(t, "10.0.0.1:443")
			conn := raw
			ended := make(chan error, 1)
			if c.sni != "-" {
				secure := tls.Client(raw, &tls.Config{ServerName: c.sni, NextProtos: c.alpn, InsecureSkipVerify: true})
				conn = secure
			}
			go func() { // a handshake that must not wait for Accept
				_, err := conn.Write([]byte(c.first + "rest"))
				ended <- err
			}()
			got := accept(t, open[c.door])
			is.NoErr(t, <-ended)
			is.Equal(t, got.ALPN, c.agreed)
			is.True(t, got.External, "outside")
			_, secure := got.TLS()
			is.Equal(t, secure, c.sni != "-")
			b := make([]byte, len(c.first)+4)
			_, err := io.ReadFull(got, b)
			is.NoErr(t, err)
			is.Equal(t, string(b), c.first+"rest")
		})
	}
}

func TestHTTPServer(t *testing.T) {
	h := newHouse(t)
	h.keys.set(func() { h.keys.server = h.ca.issue(t, "im.example.test", "10.0.0.1") })
	_, open := h.open(t, Config{}, door("f/sips", 443, "sips", server), door("w/https", 443, "https", server), door("w/http", 443, "http"))
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto)
		if r.TLS != nil {
			io.WriteString(w, " secure "+r.TLS.ServerName)
		}
		io.WriteString(w, " "+r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
		io.WriteString(w, " "+r.Header.Get("X-Door"))
	}), ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		is.True(t, Of(c) != nil, "what is known of the connection is found")
		return ctx
	}}
	defer srv.Close()
	for _, n := range []string{"w/https", "w/http"} {
		go srv.Serve(open[n].Listener())
	}
	for _, c := range []struct {
		name, url, want string
		two             bool
		alpn            bool
	}{
		{"http/2", "https://im.example.test/", "HTTP/2.0 secure im.example.test 10.0.0.1:443", true, true},
		{"http/1.1", "https://im.example.test/", "HTTP/1.1 secure im.example.test 10.0.0.1:443", false, true},
		{"no ALPN", "https://10.0.0.1/", "HTTP/1.1 secure  10.0.0.1:443", false, false},
		{"in clear", "http://10.0.0.1:443/", "HTTP/1.1 10.0.0.1:443", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := &tls.Config{RootCAs: h.ca.pool}
			if c.alpn {
				config.NextProtos = []string{"http/1.1"}
			}
			tr := &http.Transport{
				TLSClientConfig: config, ForceAttemptHTTP2: c.two,
				DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
					return h.client.Dial(ctx, netip.Addr{}, at("10.0.0.1:443"))
				},
			}
			defer tr.CloseIdleConnections()
			resp, err := (&http.Client{Transport: tr, Timeout: 5 * time.Second}).Get(c.url)
			is.NoErr(t, err)
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			is.NoErr(t, err)
			is.Equal(t, strings.TrimSpace(string(b)), c.want)
		})
	}
}

func TestAsksForCertificates(t *testing.T) {
	h := newHouse(t)
	ps := append(shared443(), door("focus/https", 444, "https", mutual), door("m/manage", 135, "manage", mutual))
	h.open(t, Config{}, ps...)
	for _, c := range []struct {
		name, to, sni string
		alpn          []string
		asked         bool
	}{
		{"sip client", "10.0.0.1:443", "sip.example.test", nil, true},
		{"sip client that says so", "10.0.0.1:443", "sip.example.test", []string{"sip/2"}, true},
		{"no name", "10.0.0.1:443", "", nil, true},
		{"browser at a web name", "10.0.0.1:443", "im.example.test", []string{"h2", "http/1.1"}, false},
		{"browser at a sip name", "10.0.0.1:443", "sip.example.test", []string{"h2", "http/1.1"}, false},
		{"web name", "10.0.0.1:443", "im.example.test", nil, false},
		{"turn", "10.0.0.1:443", "sip.example.test", []string{"stun.turn"}, false},
		{"where all must", "10.0.0.1:444", "x", []string{"h2"}, true},
		{"where all must, unknown protocol", "10.0.0.1:135", "x", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := false
			conn := tls.Client(h.dial(t, c.to), &tls.Config{
				ServerName: c.sni, NextProtos: c.alpn, InsecureSkipVerify: true,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					asked = true
					return &tls.Certificate{}, nil
				},
			})
			is.NoErr(t, conn.Handshake())
			is.Equal(t, asked, c.asked)
		})
	}
}

func TestSlowAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		_, open := h.open(t, Config{}, door("f/sips", 443, "sips", server), door("w/http", 443, "http"))
		silent := h.dial(t, "10.0.0.1:443")
		half := h.dial(t, "10.0.0.1:443")
		_, err := half.Write([]byte("\x16\x03\x01")) // begins TLS and never goes on
		is.NoErr(t, err)
		began := time.Now()
		for _, c := range []net.Conn{silent, half} {
			_, err := c.Read(make([]byte, 1))
			is.True(t, errors.Is(err, io.EOF), "closed by the server")
		}
		is.Equal(t, time.Since(began), 5*time.Second)
		// One that has been handed over has no deadline any more.
		good := h.dial(t, "10.0.0.1:443")
		_, err = good.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		is.NoErr(t, err)
		got := accept(t, open["w/http"])
		_, err = io.ReadFull(got, make([]byte, 18))
		is.NoErr(t, err)
		time.AfterFunc(time.Hour, func() { good.Write([]byte("x")) })
		_, err = got.Read(make([]byte, 1))
		is.NoErr(t, err, "an hour later")
	})
}

func TestManySilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		d, open := h.open(t, Config{Limits: Limits{Stalled: 30, StalledPerAddress: 20, PerAddress: 40}},
			door("f/sips", 443, "sips", server), door("w/http", 443, "http"))
		var slow []net.Conn
		for range 200 {
			slow = append(slow, h.dial(t, "10.0.0.1:443"))
			synctest.Wait()
		}
		good := h.dial(t, "10.0.0.1:443")
		_, err := good.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		is.NoErr(t, err)
		accept(t, open["w/http"])
		s := d.sockets[place{ports.TCP, at("0.0.0.0:443")}]
		s.mu.Lock()
		waiting := s.stalled.Len()
		s.mu.Unlock()
		is.True(t, waiting <= 20, "the oldest went")
		_, err = slow[0].Read(make([]byte, 1))
		is.Equal(t, err, io.EOF)
		// Those who speak count too, up to the cap; and no more after they have gone.
		for range 60 {
			c := h.dial(t, "10.0.0.1:443")
			c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			synctest.Wait()
		}
		s.mu.Lock()
		held := s.from[ip("10.0.0.2")]
		s.mu.Unlock()
		is.Equal(t, held, 40)
	})
}
