package route

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"fernamt/core/location"
	"fernamt/test/is"
	"fernamt/wire/clock"
	"fernamt/wire/proxy"
	"fernamt/wire/sip"
)

// A phone whose connection is new goes on using the Service-Route of the old one: its
// request is its own, not one along the Path to it (RFC 3608 §5).
func TestServiceRouteOverNewConnection(t *testing.T) {
	for name, up := range map[string]side{
		"another port": udpSide(1, "198.51.100.7:9999"), "same port": udpSide(1, "198.51.100.7:5060"),
		"another address": udpSide(1, "203.0.113.77:5060"), "a connection that is gone": {kind: sideLink, link: 77},
	} {
		d := newDesk(t, nil)
		route := "Route: <sip:192.0.2.1:5060;lr;ft=" + string(d.g.tokens.append(nil, up, side{})) + ";ob>"
		code, _ := d.signIn("MESSAGE", "sip:bob@x.test", "alice", secret, route)
		is.Equal(t, code, 200, name)
		is.Equal(t, len(d.got), 1, name)
		is.Equal(t, d.got[0].Kind, Account, name)
		is.Equal(t, len(header(d.seen[0], "Route")), 0, name)
	}
}

// The Service-Route that we give leads to us and nowhere else, also when a server
// brings the request over a connection that is not the one of the REGISTER.
func TestServiceRoute(t *testing.T) {
	d := newDesk(t, nil)
	given := ""
	d.g.Handle("frontend", func(r *Request) { given = string(r.ServiceRoute()); r.Reply(200, nil) })
	code, _ := d.signIn("REGISTER", "sip:x.test", "alice", secret)
	is.Equal(t, code, 200)
	is.True(t, strings.HasPrefix(given, "<sip:192.0.2.1:5060;lr;ft="), given)
	d.g.Handle("frontend", func(r *Request) { d.got = append(d.got, r.To); r.Reply(200, nil) })
	d.link.info = sip.LinkInfo{ID: 9, Transport: sip.TLS, Local: d.link.info.Local, Door: "frontend/sip-udp", Peer: []string{"fe2.x.test"}}
	code, _ = d.ask(d.request("MESSAGE", "sip:bob@x.test", "alice", "Route: "+given))
	is.Equal(t, code, 200)
	is.Equal(t, d.got[0].Kind, Account)
}

// Every Route of ours comes off, up to a bound: a phone puts its outbound proxy before
// the Service-Route or the Record-Route.
func TestOwnRoutes(t *testing.T) {
	d := newDesk(t, nil)
	const own, foreign = "<sip:192.0.2.1:5060;lr>", "<sip:203.0.113.9:5080;lr>"
	path := "<sip:192.0.2.1;lr;ft=" + string(d.g.tokens.append(nil, udpSide(1, "198.51.100.7:5060"), side{})) + ";ob>"
	dialog := "<sip:192.0.2.1;lr;ft=" + string(d.g.tokens.append(nil, udpSide(1, "198.51.100.7:5060"), udpSide(1, "203.0.113.9:5080"))) + ">"
	second := "<sip:192.0.2.1;lr;ft=" + string(d.g.tokens.append(nil, udpSide(1, "203.0.113.9:5080"), udpSide(1, "203.0.113.10:5080"))) + ">"
	for _, c := range []struct {
		routes []string
		kind   Kind
		left   []string
	}{
		{[]string{own, path}, Account, nil},
		{[]string{"<sip:x.test;lr>", own, path}, Account, nil},
		{[]string{own, own, own, own}, Account, nil},
		{[]string{own, own, own, own, own, own}, Onward, []string{own + ", " + own}},
		{[]string{own, foreign, own}, Onward, []string{foreign + ", " + own}},
		{[]string{own, dialog, dialog, foreign}, Within, []string{foreign}},
		{[]string{own, dialog, second, second}, Within, []string{second + ", " + second}},
	} {
		d.got, d.seen = nil, nil
		code, _ := d.signIn("MESSAGE", "sip:bob@x.test", "alice", secret, "Route: "+strings.Join(c.routes, ", "))
		is.Equal(t, code, 200, fmt.Sprint(c.routes))
		is.Equal(t, d.got[0].Kind, c.kind, fmt.Sprint(c.routes))
		is.Equal(t, header(d.seen[0], "Route"), c.left, fmt.Sprint(c.routes))
	}
}

// A stranger's ACK, which nobody can challenge, does not leave the server.
func TestStrangersACK(t *testing.T) {
	d := newDesk(t, nil)
	d.g.Claim("focus", "conf:focusfactory")
	up := location.Update{AOR: []byte("bob@x.test"), CallID: []byte("1"), CSeq: 1, Now: d.now, Max: 8, Contacts: []location.Contact{{
		URI: []byte("sip:bob@192.0.2.50"), Params: []byte(`;+sip.instance="<urn:uuid:1>"`), Instance: []byte("urn:uuid:1"), Q: 1000, Expires: 60}}}
	_, _, err := d.g.Locations().Register(&up, nil, location.GRUU)
	is.NoErr(t, err)
	path := "Route: <sip:192.0.2.1;lr;ft=" + string(d.g.tokens.append(nil, udpSide(1, "203.0.113.9:5080"), side{})) + ">"
	ack := func(uri string, lines ...string) {
		d.t.Helper()
		code, _ := d.ask(strings.Replace(d.request("ACK", uri, "stranger@y.test", lines...), "\r\nCall-ID", ";tag=2\r\nCall-ID", 1))
		is.Equal(t, code, 0)
	}
	for _, uri := range []string{"sip:bob@x.test", "sip:bob@x.test;gr=urn:uuid:1", "tel:+491", "sip:a@y.test",
		"sip:bob@x.test;gruu;opaque=app:conf:focusfactory"} {
		ack(uri)
		ack(uri, path)
		is.Equal(t, len(d.got), 0, uri)
	}
	ack("sip:192.0.2.1:5060")
	is.Equal(t, len(d.got), 1, "the role itself may have answered the call")
	d.g.Trust("frontend", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")})
	ack("sip:bob@x.test")
	is.Equal(t, len(d.got), 2, "a gateway's")
}

// A REGISTER that ends here may come with Max-Forwards 0; one that is passed on may not.
func TestRegisterPassedOn(t *testing.T) {
	d := newDesk(t, nil)
	d.g.Trust("frontend", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")})
	spent := func(uri string) int {
		code, _ := d.ask(strings.Replace(d.request("REGISTER", uri, "alice"), "Max-Forwards: 70", "Max-Forwards: 0", 1))
		return code
	}
	is.Equal(t, spent("sip:x.test"), 200)
	is.Equal(t, spent("sip:y.test"), 483)
	d.g.Handle("frontend", func(r *Request) {
		if err := r.ToPool("focus", ""); err != nil {
			r.Refuse(err)
		}
	})
	d.g.Handle("focus", func(r *Request) { r.Reply(200, nil) })
	is.Equal(t, spent("sip:x.test"), 483)
}

// Whoever was disabled is not reached by an address of one phone either.
func TestDisabledEndpoint(t *testing.T) {
	d := newDesk(t, nil)
	d.g.Trust("frontend", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")})
	up := location.Update{AOR: []byte("bob@x.test"), CallID: []byte("1"), CSeq: 1, Now: d.now, Max: 8, Epid: []byte("e1"), Contacts: []location.Contact{{
		URI: []byte("sip:bob@192.0.2.50"), Params: []byte(`;+sip.instance="<urn:uuid:1>"`), Instance: []byte("urn:uuid:1"), Q: 1000, Expires: 60}}}
	lines, _, err := d.g.Locations().Register(&up, nil, location.GRUU)
	is.NoErr(t, err)
	_, temp, _ := strings.Cut(string(lines), `temp-gruu="`)
	temp, _, _ = strings.Cut(temp, `"`)
	for _, want := range []int{200, 404} {
		for _, uri := range []string{"sip:bob@x.test;gr=urn:uuid:1", "sip:bob@x.test;opaque=user:epid:e1;gruu", temp} {
			code, _ := d.ask(d.request("MESSAGE", uri, "gateway"))
			is.Equal(t, code, want, uri)
		}
		d.g.c.Users.(town)["bob@x.test"].Disabled = true
	}
	delete(d.g.c.Users.(town), "bob@x.test")
	code, _ := d.ask(d.request("MESSAGE", temp, "gateway"))
	is.Equal(t, code, 404, "an account that is no more")
}

// RFC 3325 §7: between servers the name goes along, a phone does not see it.
func TestPrivacy(t *testing.T) {
	d, packets, _ := dialogDesk(t)
	for _, c := range []struct {
		privacy string
		hidden  bool
	}{{"id", true}, {"header;ID;critical", true}, {"user; id", true}, {"none", false}, {"idle;session", false}, {"critical", false}} {
		d.link.info = sip.LinkInfo{ID: 9, Transport: sip.TLS, Local: d.link.info.Local, Door: "frontend/sip-udp", Peer: []string{"fe2.x.test"}}
		token := string(d.g.tokens.append(nil, udpSide(1, "203.0.113.9:5080"), side{}))
		d.ask(d.request("MESSAGE", "sip:bob@10.0.0.1", "anonymous@anonymous.invalid", "P-Asserted-Identity: <sip:alice@x.test>",
			"Remote-Party-ID: <sip:alice@x.test>", "Privacy: "+c.privacy, "Route: <sip:192.0.2.1:5060;lr;ft="+token+";ob>"))
		_, text := packets.next(t)
		is.Equal(t, strings.Contains(text, "alice"), !c.hidden, c.privacy, text)
		m := sip.NewRequest("MESSAGE", "sip:bob@x.test")
		m.Add(sip.HPAssertedIdentity, []byte("<sip:alice@x.test>"))
		m.Add(sip.HPrivacy, []byte(c.privacy))
		d.g.leaving(m, sip.Flow{Link: d.link})
		is.True(t, m.Has(sip.HPAssertedIdentity), "to a server", c.privacy)
		d.link.info.Peer = nil
		d.g.leaving(m, sip.Flow{Link: d.link})
		is.Equal(t, m.Has(sip.HPAssertedIdentity), !c.hidden, "to a stranger", c.privacy)
	}
	d = newDesk(t, nil)
	_, _ = d.signIn("MESSAGE", "sip:bob@x.test", "alice", secret, "Privacy: session", "P-Preferred-Identity: <sip:alice.alias@x.test>")
	is.Equal(t, header(d.seen[0], "P-Asserted-Identity"), []string{"<sip:alice@x.test>"})
	is.Equal(t, len(header(d.seen[0], "P-Preferred-Identity")), 0, "it was for the first proxy")
}

// A response that says who answered is believed from servers and trusted addresses alone.
func TestAssertedInResponse(t *testing.T) {
	d := newDesk(t, nil)
	for _, c := range []struct {
		peer, trusted, kept bool
	}{{false, false, false}, {true, false, true}, {false, true, true}} {
		d.link.info.Peer = nil
		if c.peer {
			d.link.info.Peer = []string{"fe2.x.test"}
		}
		d.g.Trust("frontend", nil)
		if c.trusted {
			d.g.Trust("frontend", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")})
		}
		m := new(sip.Message)
		is.NoErr(t, m.Parse([]byte("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1\r\nFrom: <sip:a@x.test>;tag=1\r\nTo: <sip:b@x.test>;tag=2\r\n"+
			"Call-ID: 1\r\nCSeq: 1 INVITE\r\nP-Asserted-Identity: <sip:boss@x.test>\r\nContent-Length: 0\r\n\r\n")))
		m.Flow = sip.Flow{Link: d.link, Remote: d.from}
		d.g.leaving(m, sip.Flow{Link: d.link, Remote: d.from})
		is.Equal(t, m.Has(sip.HPAssertedIdentity), c.kept, fmt.Sprint(c))
	}
}

// Two roles with a socket each: what a role sends leaves by its own.
func TestOwnDoor(t *testing.T) {
	d := newDesk(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	serve := func(role, local string) *pipe {
		p := newPipe()
		all.Go(func() {
			is.NoErr(t, d.g.ServePacket(ctx, role, p, sip.LinkInfo{Door: role + "/sip-udp", Local: netip.MustParseAddrPort(local)}))
		})
		p.awaitReader()
		return p
	}
	pipes := map[string]*pipe{"director": serve("director", "192.0.2.2:5060")}
	pipes["frontend"] = serve("frontend", "192.0.2.1:5060")
	hop := sip.Hop{Transport: sip.UDP, Addr: netip.MustParseAddrPort("203.0.113.9:5080")}
	for _, role := range []string{"frontend", "director"} {
		f, ok := d.g.find(role, hop)
		is.True(t, ok)
		is.Equal(t, f.Link.Info().Door, role+"/sip-udp")
	}
	_, ok := d.g.find("focus", hop)
	is.True(t, ok, "a role without sockets uses another's")
	d.g.Trust("frontend", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")})
	d.g.Handle("frontend", func(r *Request) { r.Onward(nil) })
	d.ask(d.request("INVITE", "sip:bob@203.0.113.9:5080", "gateway"))
	to, text := pipes["frontend"].next(t)
	is.Equal(t, to, hop.Addr)
	is.True(t, strings.Contains(text, "Via: SIP/2.0/UDP 192.0.2.1:5060;"), text)
	is.True(t, strings.Contains(text, "Record-Route: <sip:192.0.2.1:5060;"), text)
	ack := d.request("ACK", "sip:bob@203.0.113.9:5080", "gateway")
	d.ask(ack)
	_, text = pipes["frontend"].next(t)
	is.True(t, strings.HasPrefix(text, "ACK"), text)
	pipes["director"].silent(t)
	cancel()
	all.Wait()
}

// memo is a log of what happened where, that a test reads.
type memo struct {
	slog.Handler
	mu   sync.Mutex
	said []string
}

func (m *memo) Enabled(context.Context, slog.Level) bool { return true }
func (m *memo) Handle(_ context.Context, r slog.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "where" {
			m.said = append(m.said, r.Message+": "+a.Value.String())
		}
		return true
	})
	return nil
}

func (m *memo) count(text string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.said {
		if s == text {
			n++
		}
	}
	return n
}

// wild is a finder that panics.
type wild struct{}

func (wild) Cached(sip.URI) ([]sip.Hop, bool)                          { return nil, false }
func (wild) Locate(context.Context, sip.URI) ([]sip.Hop, error)        { panic("wild") }
func (wild) LocateVia(context.Context, sip.Via) (h []sip.Hop, e error) { panic("wild") }

// A panic on a goroutine of a request's own, or in a timer, is logged; only the request ends.
func TestPanics(t *testing.T) {
	m := &memo{Handler: slog.DiscardHandler}
	d := newDesk(t, func(c *Config) { c.Finder, c.Log = wild{}, slog.New(m) })
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- d.g.Run(ctx) }()
	var timer clock.Timer
	d.g.wheel.Set(&timer, time.Millisecond, func(*clock.Timer) { panic("timer") })
	until(t, func() bool { return m.count("a panic cost one request: timer") == 1 })
	d.g.Handle("frontend", func(r *Request) {
		r.Forward(&proxy.Plan{Element: r.Role, Targets: []proxy.Target{{URI: []byte("sip:bob@y.test")}}})
	})
	d.g.Trust("frontend", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")})
	code, _ := d.ask(d.request("MESSAGE", "sip:bob@x.test", "gateway"))
	until(t, func() bool {
		sent := d.link.take()
		return code == 500 || len(sent) == 1 && strings.HasPrefix(sent[0], "SIP/2.0 500 ")
	})
	d.ask(d.request("ACK", "sip:bob@x.test", "gateway"))
	until(t, func() bool { return m.count("a panic cost one request: forwarding") == 2 })
	is.Equal(t, d.g.Stats().Panics, uint64(3))
	cancel()
	is.NoErr(t, <-ran)
}

func until(t *testing.T, f func() bool) {
	t.Helper()
	for range 500 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("not within five seconds")
}
