package route

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"fernamt/core/ident"
	"fernamt/core/location"
	"fernamt/test/is"
	"fernamt/wire/clock"
	"fernamt/wire/gss"
	"fernamt/wire/sip"
)

// town is a few people with the password "secret".
type town map[string]*ident.Account

func (p town) ByAddress(aor []byte) *ident.Account { return p[string(aor)] }
func (p town) ByNumber(n []byte) *ident.Account {
	for _, a := range p {
		for _, x := range a.Numbers {
			if x == string(n) {
				return a
			}
		}
	}
	return nil
}
func (p town) ByUsername(u, realm []byte) *ident.Account { return p[string(u)+"@"+string(realm)] }
func (p town) Used(int64)                                {}

func people(names ...string) town {
	p := town{}
	for i, n := range names {
		c := ident.Credential{ID: int64(i), User: n}
		copy(c.MD5[:], gss.HA1(gss.MD5, n, "x.test", "secret"))
		copy(c.SHA256[:], gss.HA1(gss.SHA256, n, "x.test", "secret"))
		p[n+"@x.test"] = &ident.Account{ID: int64(i + 1), Address: n + "@x.test", Numbers: []string{fmt.Sprint("+49", i)},
			Aliases: []string{n + ".alias@x.test"}, Credentials: []ident.Credential{c}}
		p[n+".alias@x.test"] = p[n+"@x.test"]
	}
	return p
}

// wire is a link that remembers what was sent.
type wire struct {
	info sip.LinkInfo
	mu   sync.Mutex
	sent []string
}

func (w *wire) Send(_ netip.AddrPort, b []byte) error {
	w.mu.Lock()
	w.sent = append(w.sent, string(b))
	w.mu.Unlock()
	return nil
}

func (w *wire) Info() *sip.LinkInfo { return &w.info }

// take gives what was sent and forgets it.
func (w *wire) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sent
	w.sent = nil
	return s
}

// desk is a gate with a role "frontend" that answers 200 to all it is handed.
type desk struct {
	t    testing.TB
	g    *Gate
	link *wire
	from netip.AddrPort
	now  int64
	n    int
	got  []Target // what the role was handed
	who  []Identity
	seen []string // the request's octets then
}

func newDesk(t testing.TB, set func(c *Config)) *desk {
	t.Helper()
	c := Config{Domains: []string{"x.test"}, Users: people("alice", "bob"), Name: "fe.x.test",
		Hosts: []Host{{Name: "fe.x.test"}, {Name: "fe2.x.test", Addr: netip.MustParseAddr("192.0.2.2"), Roles: map[string]uint16{"focus": 5063}}}}
	if set != nil {
		set(&c)
	}
	g, err := New(c)
	is.NoErr(t, err)
	d := &desk{t: t, g: g, from: netip.MustParseAddrPort("198.51.100.7:5060"), now: clock.Mono()}
	d.link = &wire{info: sip.LinkInfo{ID: 1, Transport: sip.UDP, Local: netip.MustParseAddrPort("192.0.2.1:5060"), Door: "frontend/sip-udp"}}
	g.own("frontend", "frontend/sip-udp", sip.UDP, d.link.info.Local)
	g.Handle("frontend", func(r *Request) {
		d.got, d.who, d.seen = append(d.got, r.To), append(d.who, r.From), append(d.seen, string(r.AppendTo(nil)))
		r.Reply(200, nil)
	})
	return d
}

// request writes a request; lines are added to the header.
func (d *desk) request(method, uri, from string, lines ...string) string {
	d.n++
	user := "<sip:" + from + "@x.test>"
	if strings.ContainsAny(from, "@<") {
		user = "<sip:" + from + ">"
	}
	return fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK%d;rport\r\nMax-Forwards: 70\r\nFrom: %s;tag=1\r\nTo: %s\r\n"+
		"Call-ID: c%d\r\nCSeq: 1 %s\r\nUser-Agent: test\r\n%sContent-Length: 0\r\n\r\n", method, uri, d.n, user, user, d.n, method, strings.Join(append(lines, ""), "\r\n"))
}

// ask hands text to the gate and gives the answer's status, 0 for silence, and text.
func (d *desk) ask(text string) (int, string) {
	d.t.Helper()
	d.link.take()
	m := new(sip.Message)
	is.NoErr(d.t, m.Parse(append(make([]byte, 0, len(text)+2048), text...)), text)
	m.Flow, m.At = sip.Flow{Link: d.link, Remote: d.from}, d.now
	m.StampVia()
	d.g.receive(m)
	sent := d.link.take()
	for i := len(sent) - 1; i >= 0; i-- {
		var code int
		if n, _ := fmt.Sscanf(sent[i], "SIP/2.0 %d", &code); n == 1 {
			return code, sent[i]
		}
	}
	return 0, ""
}

// connect makes what is asked from now on come by TCP, with a connection of that number
// in the transport layer.
func (d *desk) connect(id uint64) {
	d.t.Helper()
	d.link.info = sip.LinkInfo{ID: id, Transport: sip.TCP, Local: d.link.info.Local, Door: "frontend/sip-udp"}
	far, near := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.g.ServeConn(ctx, "frontend", near, d.link.info) }()
	d.t.Cleanup(func() { cancel(); far.Close(); is.NoErr(d.t, <-ended) })
	for range 500 {
		if _, lives := d.g.layer.ByID(id); lives {
			return
		}
		time.Sleep(time.Millisecond)
	}
	d.t.Fatal("no connection")
}

// header gives the values of a header in a text.
func header(text, name string) (vs []string) {
	for line := range strings.SplitSeq(text, "\r\n") {
		if n, v, ok := strings.Cut(line, ": "); ok && strings.EqualFold(n, name) {
			vs = append(vs, v)
		}
	}
	return vs
}

// login is how somebody answers a challenge.
type login struct {
	user, password string
	alg            gss.Algorithm
	nc             uint32
}

// answer makes the credentials for the challenge in text.
func (d *desk) answer(text, method, uri string, l login) string {
	d.t.Helper()
	name := "WWW-Authenticate"
	reply := "Authorization: "
	if len(header(text, name)) == 0 {
		name, reply = "Proxy-Authenticate", "Proxy-Authorization: "
	}
	for _, v := range header(text, name) {
		c, err := gss.ParseChallenge([]byte(v))
		is.NoErr(d.t, err)
		if c.Algorithm != l.alg {
			continue
		}
		s, err := gss.Answer([]byte(v), gss.Login{User: l.user, Password: l.password, Method: method, URI: uri, NC: max(l.nc, 1), CNonce: "abc"})
		is.NoErr(d.t, err)
		return reply + s
	}
	d.t.Fatalf("no challenge for %s in %s", l.alg, text)
	return ""
}

// signIn sends a request, answers the challenge, and gives the second answer.
func (d *desk) signIn(method, uri, from string, l login, lines ...string) (int, string) {
	d.t.Helper()
	code, text := d.ask(d.request(method, uri, from, lines...))
	if code != 401 && code != 407 {
		return code, text
	}
	return d.ask(d.request(method, uri, from, append(lines, d.answer(text, method, uri, l))...))
}

var secret = login{"alice", "secret", gss.SHA256, 1}

func TestDigest(t *testing.T) {
	for _, c := range []struct {
		name         string
		method, from string
		l            login
		to           string
		want         int
	}{
		{"sha-256", "REGISTER", "alice", secret, "sip:x.test", 200},
		{"md5", "REGISTER", "alice", login{"alice", "secret", gss.MD5, 1}, "sip:x.test", 200},
		{"wrong password", "REGISTER", "alice", login{"alice", "wrong", gss.MD5, 1}, "sip:x.test", 401},
		{"unknown user", "REGISTER", "nobody", login{"nobody", "secret", gss.MD5, 1}, "sip:x.test", 401},
		{"another's address", "REGISTER", "bob", secret, "sip:x.test", 403},
		{"own alias", "REGISTER", "alice.alias", secret, "sip:x.test", 200},
		{"message", "MESSAGE", "alice", secret, "sip:bob@x.test", 200},
		{"message in another's name", "MESSAGE", "bob", secret, "sip:bob@x.test", 403},
		{"message, hidden", "MESSAGE", "anonymous@anonymous.invalid", secret, "sip:bob@x.test", 200},
		{"message from own number", "MESSAGE", "+490@x.test", secret, "sip:bob@x.test", 200},
		{"unknown callee", "INVITE", "alice", secret, "sip:who@x.test", 404},
		{"options for a user", "OPTIONS", "alice", login{"alice", "wrong", gss.MD5, 1}, "sip:bob@x.test", 407},
		{"options for the server", "OPTIONS", "stranger@y.test", login{}, "sip:x.test", 200},
		{"scheme", "INVITE", "alice", secret, "http://x.test", 416},
		{"number", "INVITE", "alice", secret, "tel:+49-1", 200},
	} {
		d := newDesk(t, nil)
		code, text := d.signIn(c.method, c.to, c.from, c.l)
		if code != c.want {
			t.Errorf("%s: %d, want %d\n%s", c.name, code, c.want, text)
		}
	}
}

// What a wrong and an unknown user see is the same but for nonce and names.
func TestUnknownLooksAlike(t *testing.T) {
	d := newDesk(t, nil)
	strip := func(text, name string) string {
		text = strings.ReplaceAll(text, name, "N")
		for _, h := range []string{"WWW-Authenticate", "Via", "Call-ID", "To"} {
			for _, v := range header(text, h) {
				if i := strings.Index(v, `nonce="`); i >= 0 {
					v = v[i : i+47]
				}
				text = strings.ReplaceAll(text, v, "V")
			}
		}
		return text
	}
	_, known := d.signIn("REGISTER", "sip:x.test", "alice", login{"alice", "wrong", gss.SHA256, 1})
	_, unknown := d.signIn("REGISTER", "sip:x.test", "nobody", login{"nobody", "wrong", gss.SHA256, 1})
	is.Equal(t, strip(known, "alice"), strip(unknown, "nobody"))
}

func TestReplay(t *testing.T) {
	d := newDesk(t, nil)
	_, text := d.ask(d.request("REGISTER", "sip:x.test", "alice"))
	credentials := d.answer(text, "REGISTER", "sip:x.test", secret)
	first := d.request("REGISTER", "sip:x.test", "alice", "Contact: <sip:a@192.0.2.9>", credentials)
	code, _ := d.ask(first)
	is.Equal(t, code, 200)
	code, _ = d.ask(first)
	is.Equal(t, code, 200, "the same octets again are a retransmission")
	code, text = d.ask(d.request("REGISTER", "sip:x.test", "alice", "Contact: <sip:thief@192.0.2.66>", credentials))
	is.Equal(t, code, 401, "other octets with the same count are a replay")
	is.True(t, strings.Contains(text, "stale=true"))
	next := d.answer(text, "REGISTER", "sip:x.test", login{"alice", "secret", gss.SHA256, 1})
	code, _ = d.ask(d.request("REGISTER", "sip:x.test", "alice", next))
	is.Equal(t, code, 200)
	two := strings.Replace(next, "nc=00000001", "nc=00000002", 1)
	code, text = d.ask(d.request("REGISTER", "sip:x.test", "alice", two))
	is.Equal(t, code, 401, "another count needs another response")
	is.True(t, !strings.Contains(text, "stale"), text)
}

func TestForeignNonce(t *testing.T) {
	d, other := newDesk(t, nil), newDesk(t, nil)
	_, text := other.ask(other.request("REGISTER", "sip:x.test", "alice"))
	code, text := d.ask(d.request("REGISTER", "sip:x.test", "alice", d.answer(text, "REGISTER", "sip:x.test", secret)))
	is.Equal(t, code, 401)
	is.True(t, strings.Contains(text, "stale=true"), "a nonce that we never made")
}

func TestTrusted(t *testing.T) {
	d := newDesk(t, nil)
	d.g.Trust("frontend", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")})
	code, _ := d.ask(d.request("MESSAGE", "sip:bob@x.test", "gateway", "P-Preferred-Identity: <sip:x@y>"))
	is.Equal(t, code, 200)
	is.Equal(t, d.who[0].How, Trusted)
	is.Equal(t, header(d.seen[0], "P-Asserted-Identity"), []string{"<sip:gateway@x.test>"})
	d.link.info.Door = "edge/sip"
	d.g.own("edge", "edge/sip", sip.UDP, d.link.info.Local)
	d.g.Handle("edge", func(r *Request) { r.Reply(200, nil) })
	code, _ = d.ask(d.request("MESSAGE", "sip:bob@x.test", "gateway"))
	is.Equal(t, code, 407, "at another role's door the same address is a stranger")
}

// What an outsider says about himself is taken away.
func TestAssertedIdentity(t *testing.T) {
	d := newDesk(t, nil)
	code, _ := d.signIn("MESSAGE", "sip:bob@x.test", "alice", secret, "P-Asserted-Identity: <sip:boss@x.test>", "Remote-Party-ID: <sip:boss@x.test>")
	is.Equal(t, code, 200)
	is.Equal(t, header(d.seen[0], "P-Asserted-Identity"), []string{"<sip:alice@x.test>"})
	is.Equal(t, len(header(d.seen[0], "Remote-Party-ID")), 0)
	is.Equal(t, len(header(d.seen[0], "Proxy-Authorization")), 0)
	_, _ = d.signIn("MESSAGE", "sip:bob@x.test", "alice", secret, "Privacy: id")
	is.Equal(t, len(header(d.seen[1], "P-Asserted-Identity")), 0)
}

func TestPeer(t *testing.T) {
	d := newDesk(t, nil)
	d.link.info = sip.LinkInfo{ID: 9, Transport: sip.TLS, Local: d.link.info.Local, Door: "frontend/sip-udp", Peer: []string{"fe2.x.test"}}
	code, _ := d.ask(d.request("MESSAGE", "sip:bob@x.test", "someone@y.test", "P-Asserted-Identity: <sip:alice@x.test>"))
	is.Equal(t, code, 200)
	is.Equal(t, d.who[0].How, Peer)
	is.Equal(t, d.who[0].Account.Address, "alice@x.test")
	d.link.info.Peer = []string{"evil.test"}
	code, _ = d.ask(d.request("MESSAGE", "sip:bob@x.test", "someone@y.test", "P-Asserted-Identity: <sip:alice@x.test>"))
	is.Equal(t, code, 407, "a proved name that is no host of ours")
}

func TestNoOpenRelay(t *testing.T) {
	for _, uri := range []string{"sip:a@y.test", "sip:192.0.2.66", "sip:bob@x.test"} {
		d := newDesk(t, nil)
		code, _ := d.ask(d.request("INVITE", uri, "stranger@y.test"))
		is.Equal(t, code, 407, uri)
		code, _ = d.ask(d.request("INVITE", uri, "stranger@y.test", "Route: <sip:192.0.2.66;lr>"))
		is.Equal(t, code, 407, uri)
		code, _ = d.ask(d.request("BYE", uri, "stranger@y.test", "Route: <sip:192.0.2.1;lr;ft=AAAAAAAAAAAAAAAAAAAAAA>"))
		is.Equal(t, code, 407, uri)
		is.Equal(t, len(d.got), 0)
	}
}

// A connection on which somebody did Digest vouches for that one person: pidgin-sipe
// sends credentials once.
func TestSignedInOnConnection(t *testing.T) {
	d := newDesk(t, nil)
	d.connect(9)
	code, _ := d.signIn("REGISTER", "sip:x.test", "alice", secret)
	is.Equal(t, code, 200)
	code, _ = d.ask(d.request("SUBSCRIBE", "sip:alice@x.test", "alice"))
	is.Equal(t, code, 200)
	code, _ = d.ask(d.request("SUBSCRIBE", "sip:alice@x.test", "bob"))
	is.Equal(t, code, 407)
	d.g.closed(9)
	code, _ = d.ask(d.request("SUBSCRIBE", "sip:alice@x.test", "alice"))
	is.Equal(t, code, 407)
}

func TestResolve(t *testing.T) {
	d := newDesk(t, nil)
	d.g.Trust("frontend", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")})
	d.g.Claim("focus", "conf:focusfactory")
	d.g.Claim("edge", "mras@x.test")
	up := location.Update{AOR: []byte("alice@x.test"), CallID: []byte("1"), CSeq: 1, Now: d.now, Max: 8, Epid: []byte("e1"), Contacts: []location.Contact{{
		URI: []byte("sip:alice@192.0.2.50"), Params: []byte(`;+sip.instance="<urn:uuid:1>"`), Instance: []byte("urn:uuid:1"), Q: 1000, Expires: 60}}}
	lines, _, err := d.g.Locations().Register(&up, nil, location.GRUU)
	is.NoErr(t, err)
	_, temp, _ := strings.Cut(string(lines), `temp-gruu="`)
	temp, _, _ = strings.Cut(temp, `"`)
	for _, c := range []struct {
		uri  string
		kind Kind
		code int
	}{
		{"sip:x.test", Self, 200}, {"sip:192.0.2.1", Self, 200}, {"sip:alice@x.test", Account, 200}, {"sip:ALICE@X.TEST:5060;user=phone", 0, 404},
		{"sip:alice@X.TEST:5060", Account, 200}, {"sip:alice.alias@x.test", Account, 200}, {"sip:+490@x.test;user=phone", Account, 200},
		{"sip:alice@192.0.2.1", Account, 200}, {"tel:+49.0", Account, 200}, {"sip:alice@x.test;gr=urn:uuid:1", Endpoint, 200},
		{"sip:alice@x.test;gr=urn:uuid:2", 0, 480}, {"sip:alice@x.test;opaque=user:epid:e1;gruu", Endpoint, 200}, {temp, Endpoint, 200},
		{"sip:alice@x.test;gruu;opaque=app:conf:focusfactory", App, 200}, {"sip:alice@x.test;gruu;opaque=app:none", 0, 404},
		{"sip:mras@x.test", App, 200}, {"sip:bob@y.test", Onward, 200}, {"sip:bob@192.0.2.1:5099", Onward, 200}, {"sip:nobody@x.test", 0, 404},
	} {
		d.got = nil
		code, _ := d.ask(d.request("OPTIONS", c.uri, "gateway"))
		is.Equal(t, code, c.code, c.uri)
		if c.code == 200 {
			is.Equal(t, len(d.got), 1, c.uri)
			is.Equal(t, d.got[0].Kind, c.kind, c.uri)
		}
	}
}

func TestToRole(t *testing.T) {
	d := newDesk(t, nil)
	here, err := d.g.To("frontend", "")
	is.NoErr(t, err)
	is.Equal(t, here.Flow.Link.Info().Transport, sip.Local)
	there, err := d.g.To("focus", "")
	is.NoErr(t, err)
	is.Equal(t, there.Hops, []sip.Hop{{Transport: sip.TLS, Addr: netip.MustParseAddrPort("192.0.2.2:5063"), Host: "fe2.x.test"}})
	_, err = d.g.To("edge", "")
	is.Err(t, err, "503")
}

// A request that goes to another role of this process arrives there as from a peer.
func TestLocalHop(t *testing.T) {
	d := newDesk(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- d.g.Run(ctx) }()
	d.g.Trust("frontend", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")})
	d.g.Handle("frontend", func(r *Request) {
		if err := r.ToPool("focus", ""); err != nil {
			r.Refuse(err)
		}
	})
	arrived := make(chan Identity, 1)
	d.g.Handle("focus", func(r *Request) {
		arrived <- r.From
		r.Reply(202, nil)
	})
	d.ask(d.request("MESSAGE", "sip:alice@x.test", "bob"))
	select {
	case who := <-arrived:
		is.Equal(t, who.How, Peer)
		is.Equal(t, who.Account.Address, "bob@x.test")
	case <-time.After(10 * time.Second):
		t.Error("nothing arrived")
	}
	cancel()
	is.NoErr(t, <-ran)
}
