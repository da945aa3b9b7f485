package route

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/gss"
	"fernamt/wire/sip"
)

var wrong = login{"alice", "wrong", gss.SHA256, 1}

// Ten wrong passwords bar the user from everywhere but where she signed in before.
func TestBanOfUser(t *testing.T) {
	d := newDesk(t, nil)
	home := netip.MustParseAddrPort("203.0.113.5:5060")
	thief := d.from
	d.from = home
	code, _ := d.signIn("REGISTER", "sip:x.test", "alice", secret)
	is.Equal(t, code, 200)
	for i := range 10 { // from ten addresses: none of them is banned itself
		d.from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(50 + i)}), 5060)
		code, _ = d.signIn("REGISTER", "sip:x.test", "alice", wrong)
		is.Equal(t, code, 401)
	}
	d.from = thief
	code, _ = d.signIn("REGISTER", "sip:x.test", "alice", secret)
	is.Equal(t, code, 401, "even the right password from an unknown address")
	d.from = home
	code, _ = d.signIn("REGISTER", "sip:x.test", "alice", secret)
	is.Equal(t, code, 200, "the right user from where she was before")
	d.from = thief
	code, _ = d.signIn("REGISTER", "sip:x.test", "bob", login{"bob", "secret", gss.SHA256, 1})
	is.Equal(t, code, 200, "another user is not concerned")
	d.now += int64(11 * time.Minute)
	code, _ = d.signIn("REGISTER", "sip:x.test", "alice", secret)
	is.Equal(t, code, 200, "the ban is over")
}

// Thirty wrong passwords from one address have it ignored; who is known from there goes on.
func TestBanOfAddress(t *testing.T) {
	d := newDesk(t, nil)
	code, _ := d.signIn("REGISTER", "sip:x.test", "bob", login{"bob", "secret", gss.SHA256, 1})
	is.Equal(t, code, 200)
	_, text := d.ask(d.request("REGISTER", "sip:x.test", "bob"))
	for i := range 30 {
		name := string(rune('a'+i)) + "nyone"
		code, _ = d.signIn("REGISTER", "sip:x.test", name, login{name, "x", gss.SHA256, 1})
		is.Equal(t, code, 401)
	}
	code, _ = d.ask(d.request("REGISTER", "sip:x.test", "alice"))
	is.Equal(t, code, 0, "silence")
	code, _ = d.ask(d.request("REGISTER", "sip:x.test", "bob", d.answer(text, "REGISTER", "sip:x.test", login{"bob", "secret", gss.SHA256, 1})))
	is.Equal(t, code, 200, "bob is known from there")
	d.from = netip.MustParseAddrPort("203.0.113.5:5060")
	code, _ = d.ask(d.request("REGISTER", "sip:x.test", "alice"))
	is.Equal(t, code, 401, "other addresses are not concerned")
}

// A first challenge is no failed login, however often it is asked for.
func TestChallengeIsNoFailure(t *testing.T) {
	d := newDesk(t, nil)
	for range 100 {
		code, _ := d.ask(d.request("REGISTER", "sip:x.test", "alice"))
		is.Equal(t, code, 401)
	}
	code, _ := d.signIn("REGISTER", "sip:x.test", "alice", secret)
	is.Equal(t, code, 200)
}

// Neither many ports nor many wrong guesses lock the right user out of a known address.
func TestManyGuesses(t *testing.T) {
	d := newDesk(t, nil)
	home := d.from
	code, _ := d.signIn("REGISTER", "sip:x.test", "alice", secret)
	is.Equal(t, code, 200)
	for i := range 20000 {
		d.from = netip.AddrPortFrom(netip.MustParseAddr("203.0.113.66"), uint16(1024+i%1000))
		d.ask(d.request("REGISTER", "sip:x.test", "alice", `Authorization: Digest username="alice", realm="x.test", nonce="n", uri="sip:x.test", response="00000000000000000000000000000000"`))
	}
	d.from = home
	code, _ = d.signIn("REGISTER", "sip:x.test", "alice", secret)
	is.Equal(t, code, 200)
	s := d.g.Stats()
	is.Equal(t, s.Failures, uint64(10), "after that nobody listens to the guesses")
	is.True(t, s.Banned >= 19000)
}

func TestScanner(t *testing.T) {
	d := newDesk(t, nil)
	scan := strings.Replace(d.request("OPTIONS", "sip:100@x.test", "100"), "User-Agent: test", "User-Agent: Friendly-Scanner", 1)
	code, _ := d.ask(scan)
	is.Equal(t, code, 0)
	code, _ = d.ask(d.request("REGISTER", "sip:x.test", "alice"))
	is.Equal(t, code, 0, "and from then on silence")
	is.Equal(t, d.g.Stats().Scanners, uint64(1))
}

func TestRate(t *testing.T) {
	d := newDesk(t, func(c *Config) { c.Limits.PerAddress = 10 })
	codes := map[int]int{}
	for range 100 {
		code, _ := d.ask(d.request("REGISTER", "sip:x.test", "alice"))
		codes[code]++
	}
	is.Equal(t, codes, map[int]int{401: 20, 503: 80})
	d.now += int64(time.Second)
	code, _ := d.ask(d.request("REGISTER", "sip:x.test", "alice"))
	is.Equal(t, code, 401)
	d.g.Trust("frontend", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")})
	for range 100 {
		code, _ = d.ask(d.request("REGISTER", "sip:x.test", "alice"))
		is.Equal(t, code, 200, "who is trusted is not slowed down")
	}
}

// Under overload new requests get 503 with a Retry-After that differs; what is under
// way goes on.
func TestOverload(t *testing.T) {
	d := newDesk(t, func(c *Config) { c.Limits.Transactions = 100 })
	d.g.held.Store(100)
	var after []string
	for range 50 {
		code, text := d.ask(d.request("INVITE", "sip:bob@x.test", "alice"))
		is.Equal(t, code, 503)
		after = append(after, header(text, "Retry-After")...)
	}
	is.Equal(t, len(after), 50)
	slices.Sort(after)
	is.True(t, len(slices.Compact(after)) > 3, "spread")
	d.g.held.Store(0)
	d.g.guard.shed.Store(95)
	codes := map[int]int{}
	for range 200 {
		code, _ := d.ask(d.request("INVITE", "sip:bob@x.test", "alice"))
		codes[code]++
	}
	is.True(t, codes[503] > 150 && codes[407] > 0, "most, not all")
	code, _ := d.ask(d.request("BYE", "sip:bob@x.test", "alice"))
	is.Equal(t, code, 407, "what ends a call is never turned away")
}

// A process that is late again and again sheds, and recovers slowly; once is nothing.
func TestObserve(t *testing.T) {
	d := newDesk(t, nil)
	late := int64(time.Second)
	for range patience - 1 {
		d.g.observe(late, 0)
	}
	is.Equal(t, d.g.Stats().Shedding, 0)
	d.g.observe(late, 0)
	is.Equal(t, d.g.Stats().Shedding, 20)
	for range 8 {
		d.g.observe(late, 0)
	}
	is.Equal(t, d.g.Stats().Shedding, 95)
	for range 19 {
		d.g.observe(late, late)
	}
	is.Equal(t, d.g.Stats().Shedding, 0)
}

// A flood of addresses does not make the table grow without end.
func TestGuardIsBounded(t *testing.T) {
	g := newGuard(Limits{PerAddress: 5})
	now := int64(time.Hour)
	for i := range 2 * watchParts * watchMax {
		g.allowed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	n := 0
	for i := range g.parts {
		n += len(g.parts[i].m)
	}
	is.True(t, n <= watchParts*watchMax, "bounded")
	a := netip.MustParseAddr("2001:db8::1")
	is.Equal(t, g.addr(a), g.addr(netip.MustParseAddr("2001:db8::ffff:2")), "one /64 is one address")
	is.True(t, g.addr(a) != g.addr(netip.MustParseAddr("2001:db8:0:1::1")))
	is.Equal(t, g.addr(netip.MustParseAddr("::ffff:192.0.2.1")), g.addr(netip.MustParseAddr("192.0.2.1")))
}

// What a flood costs the process: asserted is that a drop of a banned sender leaves no garbage.
func TestBannedIsCheap(t *testing.T) {
	d := newDesk(t, nil)
	d.g.guard.ban(d.g.guard.addr(d.from.Addr()), d.now)
	text := []byte(d.request("REGISTER", "sip:x.test", "alice"))
	buf := make([]byte, 0, len(text)+2048)
	m := new(sip.Message)
	if raceDetector {
		t.Log("not counted: the race detector makes sync.Pool forget")
		return
	}
	n := testing.AllocsPerRun(100, func() {
		if err := m.Parse(append(buf[:0], text...)); err != nil {
			t.Fatal(err)
		}
		m.Flow, m.At = sip.Flow{Link: d.link, Remote: d.from}, d.now
		d.g.receive(m)
	})
	is.Equal(t, n, 0.0)
	is.Equal(t, len(d.link.take()), 0)
}

// What goes on, and what ends a call, passes every limit: a call that cannot be hung
// up holds its transactions' room for nothing.
func TestWhatEndsACallPasses(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(d *desk)
	}{
		{"too many transactions", func(d *desk) { d.g.held.Store(100) }},
		{"shedding", func(d *desk) { d.g.guard.shed.Store(100) }},
		{"too many from one address", func(d *desk) {
			for d.g.guard.allowed(d.from.Addr(), d.now) {
			}
		}},
	} {
		d := newDesk(t, func(c *Config) { c.Limits.Transactions, c.Limits.PerAddress = 100, 1 })
		token := string(d.g.tokens.append(nil, udpSide(1, "198.51.100.7:5060"), udpSide(1, "203.0.113.9:5080")))
		c.set(d)
		for range 20 {
			for _, method := range []string{"BYE", "INFO", "UPDATE", "PRACK", "INVITE"} {
				code, _ := d.ask(d.inDialog(method, "sip:bob@10.0.0.1", token))
				is.Equal(t, code, 200, c.name, method)
			}
			n := len(d.got)
			d.ask(d.inDialog("ACK", "sip:bob@10.0.0.1", token))
			is.Equal(t, len(d.got), n+1, c.name)
			code, _ := d.ask(d.request("INVITE", "sip:bob@x.test", "alice"))
			is.Equal(t, code, 503, c.name)
			code, _ = d.ask(d.request("BYE", "sip:bob@x.test", "alice"))
			is.Equal(t, code, 407, c.name)
		}
	}
}

// Bans that are forgotten do not count as bans: else nobody is quiet again.
func TestForgottenBans(t *testing.T) {
	g := newGuard(Limits{})
	count := func() (n int64) {
		for i := range g.parts {
			for _, r := range g.parts[i].m {
				if r.until != 0 {
					n++
				}
			}
		}
		return n
	}
	now := int64(time.Hour)
	for i := range 3 * watchMax { // nothing but bans in one part
		g.ban(uint64(i)*watchParts, now)
	}
	is.True(t, count() > 0)
	is.Equal(t, g.bans.Load(), count())
	now += int64(2 * time.Hour)
	for i := range 3 * watchMax { // they are over, and failures take their room
		g.failed(uint64(i)*watchParts+1, uint64(i)*watchParts+2, now)
		g.failed(0, uint64(i)*watchParts, now)
	}
	is.Equal(t, g.bans.Load(), count())
}

// A connection that closed while its Digest was checked leaves nothing behind.
func TestSignedInOnClosedConnection(t *testing.T) {
	d := newDesk(t, nil)
	d.link.info = sip.LinkInfo{ID: 9, Transport: sip.TCP, Local: d.link.info.Local, Door: "frontend/sip-udp"}
	d.g.closed(9)
	code, _ := d.signIn("REGISTER", "sip:x.test", "alice", secret)
	is.Equal(t, code, 200)
	_, ok := d.g.signed.who(9)
	is.True(t, !ok, "no connection has this number any more")
}
