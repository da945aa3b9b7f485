package location

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// wire is a link that goes nowhere.
type wire struct{ info sip.LinkInfo }

func (w *wire) Send(netip.AddrPort, []byte) error { return nil }
func (w *wire) Info() *sip.LinkInfo               { return &w.info }

func flowOf(id uint64, t sip.Transport, remote string) sip.Flow {
	return sip.Flow{Link: &wire{sip.LinkInfo{ID: id, Transport: t}}, Remote: netip.MustParseAddrPort(remote)}
}

var udp = flowOf(1, sip.UDP, "192.0.2.9:5060")

// hand is a clock moved by hand.
type hand struct{ now int64 }

func (h *hand) read() int64          { return h.now }
func (h *hand) pass(d time.Duration) { h.now += int64(d) }

func open(t testing.TB, h *hand) *Table {
	t.Helper()
	tab, err := Open(Config{Now: h.read, Key: []byte("0123456789abcdef")})
	is.NoErr(t, err)
	return tab
}

func contact(uri string, seconds int) Contact {
	return Contact{URI: []byte(uri), Expires: seconds, Q: 1000, Flow: udp}
}

func (h *hand) update(aor, callID string, cseq uint32, c ...Contact) *Update {
	return &Update{AOR: []byte(aor), CallID: []byte(callID), CSeq: cseq, Contacts: c, Now: h.now, Max: 8}
}

func contacts(tab *Table, aor string, now int64) string {
	var s []string
	for _, b := range tab.Lookup([]byte(aor), now, nil) {
		s = append(s, string(b.Contact))
	}
	return strings.Join(s, " ")
}

// RFC 3261 §10.3 steps 6 to 8, one row per sentence.
func TestRegister(t *testing.T) {
	const a, b = "sip:alice@192.0.2.1", "sip:alice@192.0.2.2"
	steps := []struct {
		name string
		u    func(h *hand) *Update
		wait time.Duration
		err  error
		want string
	}{
		{"add", func(h *hand) *Update { return h.update("alice@x", "1", 1, contact(a, 60)) }, 0, nil, a},
		{"again, the same", func(h *hand) *Update { return h.update("alice@x", "1", 1, contact(a, 600)) }, 0, nil, a},
		{"lower cseq", func(h *hand) *Update { return h.update("alice@x", "1", 0, contact(a, 60)) }, 0, ErrOrder, a},
		{"one of two too low: none", func(h *hand) *Update {
			return h.update("alice@x", "1", 0, contact(b, 60), contact(a, 60))
		}, 0, ErrOrder, a},
		{"second contact, newest first", func(h *hand) *Update { return h.update("alice@x", "1", 2, contact(b, 120)) }, time.Second, nil, b + " " + a},
		{"another user", func(h *hand) *Update { return h.update("bob@x", "1", 2, contact(b, 120)) }, 0, nil, b + " " + a},
		{"equal by URI rules", func(h *hand) *Update {
			return h.update("alice@x", "2", 1, contact("SIP:%61lice@192.0.2.2", 120))
		}, 0, nil, "SIP:%61lice@192.0.2.2 " + a},
		{"remove one", func(h *hand) *Update { return h.update("alice@x", "2", 2, contact(b, 0)) }, 0, nil, a},
		{"remove what is not there", func(h *hand) *Update { return h.update("alice@x", "2", 3, contact(b, 0)) }, 0, nil, a},
		{"other call-id, lower cseq", func(h *hand) *Update { return h.update("alice@x", "3", 0, contact(a, 60)) }, 0, nil, a},
		{"just before the end", func(h *hand) *Update { return h.update("alice@x", "4", 0) }, 59 * time.Second, nil, a},
		{"expired", func(h *hand) *Update { return h.update("alice@x", "4", 0) }, 2 * time.Second, nil, ""},
		{"two at once", func(h *hand) *Update { return h.update("alice@x", "4", 1, contact(a, 60), contact(b, 60)) }, 0, nil, b + " " + a},
		{"star, too low", func(h *hand) *Update { u := h.update("alice@x", "4", 0); u.All = true; return u }, 0, ErrOrder, b + " " + a},
		{"star", func(h *hand) *Update { u := h.update("alice@x", "5", 0); u.All = true; return u }, 0, nil, ""},
	}
	h := &hand{now: 5}
	tab := open(t, h)
	for _, s := range steps {
		h.pass(s.wait)
		_, out, err := tab.Register(s.u(h), nil, 0)
		is.Equal(t, err, s.err, s.name)
		is.Equal(t, contacts(tab, "alice@x", h.now), s.want, s.name)
		if err == nil && s.u(h).AOR[0] == 'a' {
			is.Equal(t, out.Left, len(strings.Fields(s.want)), s.name)
		}
	}
	is.Equal(t, tab.Count(), 1) // bob's
}

func TestContactsInAnswer(t *testing.T) {
	h := &hand{}
	tab := open(t, h)
	c := contact("sip:a@192.0.2.1", 100)
	c.Q, c.Params = 500, []byte(`;foo="a;b"`)
	got, _, err := tab.Register(h.update("a@x", "1", 1, c), nil, 0)
	is.NoErr(t, err)
	is.Equal(t, string(got), "Contact: <sip:a@192.0.2.1>;expires=100;q=0.500;foo=\"a;b\"\r\n")
	h.pass(1500 * time.Millisecond)
	got, _, _ = tab.Register(h.update("a@x", "1", 2), nil, 0)
	is.True(t, strings.Contains(string(got), ";expires=99;"), string(got))
}

// RFC 5626 §6: instance and reg-id make the key, whatever the address.
func TestOutbound(t *testing.T) {
	h := &hand{}
	tab := open(t, h)
	reg := func(uri, call string, id uint32, f sip.Flow) {
		c := Contact{URI: []byte(uri), Expires: 60, Q: 1000, RegID: id,
			Params: []byte(`;+sip.instance="<urn:uuid:085e0bd8-031c-5a0d-8d9a-f149aae6954a>"`), Instance: []byte("urn:uuid:085e0bd8-031c-5a0d-8d9a-f149aae6954a")}
		c.Flow = f
		_, _, err := tab.Register(h.update("a@x", call, 1, c), nil, 0)
		is.NoErr(t, err)
		h.pass(time.Second)
	}
	one, two, three := flowOf(11, sip.TCP, "192.0.2.1:1"), flowOf(12, sip.TCP, "192.0.2.1:2"), flowOf(13, sip.TCP, "192.0.2.1:3")
	reg("sip:a@192.0.2.1:1", "c1", 1, one)
	reg("sip:a@192.0.2.1:2", "c2", 2, two)
	is.Equal(t, contacts(tab, "a@x", h.now), "sip:a@192.0.2.1:2 sip:a@192.0.2.1:1")
	reg("sip:a@192.0.2.1:3", "c3", 1, three) // after a restart: takes reg-id 1's place
	is.Equal(t, contacts(tab, "a@x", h.now), "sip:a@192.0.2.1:3 sip:a@192.0.2.1:2")
	var gone []string
	tab.SetGone(func(b Binding, r Reason) { gone = append(gone, string(b.Contact)+" "+r.String()) })
	tab.Closed(11) // nothing is left on it
	is.Equal(t, len(gone), 0)
	tab.Closed(13)
	is.Equal(t, gone, []string{"sip:a@192.0.2.1:3 closed"})
	is.Equal(t, contacts(tab, "a@x", h.now), "sip:a@192.0.2.1:2")
	tab.Closed(12)
	is.Equal(t, tab.Count(), 0)
	for i := range tab.shards {
		is.Equal(t, len(tab.shards[i].flows), 0)
		is.Equal(t, len(tab.shards[i].index), 0)
	}
}

// A phone that starts anew has another port and another Call-ID.
func TestInstanceWithoutRegID(t *testing.T) {
	h := &hand{}
	tab := open(t, h)
	for i := range 3 {
		c := contact(fmt.Sprintf("sip:a@192.0.2.1:%d", 1000+i), 60)
		c.Params, c.Instance = []byte(`;+sip.instance="<urn:uuid:1>"`), []byte("urn:uuid:1")
		_, _, err := tab.Register(h.update("a@x", fmt.Sprint("c", i), 1, c), nil, 0)
		is.NoErr(t, err)
	}
	is.Equal(t, contacts(tab, "a@x", h.now), "sip:a@192.0.2.1:1002")
}

func TestCap(t *testing.T) {
	h := &hand{}
	tab := open(t, h)
	var gone []string
	tab.SetGone(func(b Binding, r Reason) { gone = append(gone, string(b.Contact)+" "+r.String()) })
	for i := range 9 {
		h.pass(time.Second)
		_, _, err := tab.Register(h.update("a@x", fmt.Sprint(i), 1, contact(fmt.Sprintf("sip:a@192.0.2.%d", i), 60)), nil, 0)
		is.NoErr(t, err)
	}
	is.Equal(t, gone, []string{"sip:a@192.0.2.0 replaced"})
	is.Equal(t, tab.Count(), 8)
	u := h.update("a@x", "n", 1, contact("sip:a@192.0.2.99", 60))
	u.Refuse = true
	_, _, err := tab.Register(u, nil, 0)
	is.Equal(t, err, ErrTooMany)
	is.Equal(t, tab.Count(), 8)
}

func TestPrune(t *testing.T) {
	h := &hand{}
	tab := open(t, h)
	for _, a := range []string{"a@x", "b@x", "c@x"} {
		_, _, err := tab.Register(h.update(a, "1", 1, contact("sip:1@x", 60), contact("sip:2@x", 60)), nil, 0)
		is.NoErr(t, err)
	}
	is.Equal(t, tab.Prune(func(aor []byte) bool { return string(aor) != "b@x" }), 2)
	is.Equal(t, tab.Count(), 4)
	is.Equal(t, contacts(tab, "b@x", h.now), "")
}

func TestQ(t *testing.T) {
	h := &hand{}
	tab := open(t, h)
	for i, q := range []int{100, 900, 500} {
		c := contact(fmt.Sprintf("sip:q%d@x", q), 60)
		c.Q = q
		_, _, err := tab.Register(h.update("a@x", fmt.Sprint(i), 1, c), nil, 0)
		is.NoErr(t, err)
	}
	is.Equal(t, contacts(tab, "a@x", h.now), "sip:q900@x sip:q500@x sip:q100@x")
}

func TestGRUU(t *testing.T) {
	h := &hand{}
	tab := open(t, h)
	c := contact("sip:a@192.0.2.1", 100)
	c.Params, c.Instance = []byte(`;+sip.instance="<urn:uuid:085e0bd8-031c-5a0d-8d9a-f149aae6954a>"`), []byte("urn:uuid:085e0bd8-031c-5a0d-8d9a-f149aae6954a")
	u := h.update("a b@x", "call", 1, c)
	u.Epid = []byte("b34afb6ebb23")
	got, _, err := tab.Register(u, nil, GRUU|OC)
	is.NoErr(t, err)
	text := string(got)
	is.True(t, strings.Contains(text, `;pub-gruu="sip:a%20b@x;gr=urn:uuid:085e0bd8-031c-5a0d-8d9a-f149aae6954a"`), text)
	_, temp, _ := strings.Cut(text, `;temp-gruu="sip:`)
	temp, _, _ = strings.Cut(temp, "@x;gr\"")
	_, epid, _ := strings.Cut(text, "opaque=user:epid:")
	epid, _, _ = strings.Cut(epid, ";")

	b, ok := tab.ByEndpoint([]byte("a b@x"), []byte("urn:uuid:085e0bd8-031c-5a0d-8d9a-f149aae6954a"), nil, h.now)
	is.True(t, ok && string(b.Contact) == "sip:a@192.0.2.1", "public")
	_, ok = tab.ByEndpoint([]byte("a b@x"), nil, []byte(epid), h.now)
	is.True(t, ok, "oc", epid)
	_, ok = tab.ByTemp([]byte(temp), h.now)
	is.True(t, ok, "temporary", temp)
	last := byte('A')
	if temp[10] == last {
		last = 'B'
	}
	_, ok = tab.ByTemp([]byte(temp[:10]+string(last)+temp[11:]), h.now)
	is.True(t, !ok, "a changed one is none of ours")
	u.CallID, u.CSeq = []byte("another"), 2
	_, _, err = tab.Register(u, nil, 0)
	is.NoErr(t, err)
	_, ok = tab.ByTemp([]byte(temp), h.now)
	is.True(t, !ok, "ends with its Call-ID, RFC 5627 §3.1.2")
}

func TestRefreshAllocatesNothing(t *testing.T) {
	h := &hand{}
	tab, err := Open(Config{Now: h.read, Dir: t.TempDir()})
	is.NoErr(t, err)
	u := h.update("u00001@bar.test", "12345678@127.0.0.1", 1, contact("sip:u00001@127.0.0.1:15070", 3600))
	buf := make([]byte, 0, 512)
	_, _, err = tab.Register(u, buf, 0)
	is.NoErr(t, err)
	n := testing.AllocsPerRun(100, func() {
		u.CSeq++
		if _, _, err := tab.Register(u, buf[:0], 0); err != nil {
			t.Fatal(err)
		}
	})
	is.Equal(t, n, 0.0)
	is.NoErr(t, tab.Close())
}

// Memory per binding with 100,000, printed; the limit is asserted.
func TestMemoryPerBinding(t *testing.T) {
	const n = 100000
	h := &hand{}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tab := open(t, h)
	for i := range n {
		u := h.update(fmt.Sprintf("u%06d@bar.test", i), fmt.Sprintf("%d-1234@127.0.0.1", i), 1, contact(fmt.Sprintf("sip:u%06d@127.0.0.1:15070", i), 3600))
		if _, _, err := tab.Register(u, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := (after.HeapAlloc - before.HeapAlloc) / n
	t.Logf("%d octets per binding with %d bindings", per, tab.Count())
	is.True(t, per <= 400, "octets per binding")
	worst := 0
	for i := range tab.shards {
		worst = max(worst, len(tab.shards[i].index))
	}
	is.True(t, worst < 2*n/shardCount, "shards are even", fmt.Sprint(worst))
	runtime.KeepAlive(tab)
}

func BenchmarkRefresh(b *testing.B) {
	h := &hand{}
	tab := open(b, h)
	const n = 20000
	us := make([]*Update, n)
	for i := range us {
		us[i] = h.update(fmt.Sprintf("u%05d@bar.test", i), fmt.Sprintf("%d-1234@127.0.0.1", i), 1, contact(fmt.Sprintf("sip:u%05d@127.0.0.1:15070", i), 3600))
		tab.Register(us[i], nil, 0)
	}
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		u := us[i%n]
		u.CSeq++
		tab.Register(u, buf, 0)
		i += 7919
	}
}

func BenchmarkLookup(b *testing.B) {
	h := &hand{}
	tab := open(b, h)
	const n = 20000
	us := make([]*Update, n)
	for i := range us {
		us[i] = h.update(fmt.Sprintf("u%05d@bar.test", i), "1", 1, contact(fmt.Sprintf("sip:u%05d@127.0.0.1:15070", i), 3600))
		tab.Register(us[i], nil, 0)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		var room [4]Binding
		tab.Lookup(us[i%n].AOR, h.now, room[:0])
		i += 7919
	}
}

// However many Contacts one REGISTER names, and however many come within one tick of the
// clock, a user has no more bindings than allowed.
func TestLimit(t *testing.T) {
	many := func(from, n int) (c []Contact) {
		for i := range n {
			c = append(c, contact(fmt.Sprintf("sip:a@192.0.2.1:%d", from+i), 60))
		}
		return c
	}
	for _, c := range []struct {
		name   string
		refuse bool
		had    int // each by a REGISTER of its own
		send   []Contact
		err    error
		left   int
	}{
		{"14 at once", false, 0, many(1, 14), ErrTooMany, 0},
		{"8 at once", false, 0, many(1, 8), nil, 8},
		{"8 at once in place of 8", false, 8, many(101, 8), nil, 8},
		{"8 again and 6 new", false, 8, many(1, 14), ErrTooMany, 8},
		{"4 again and 4 new", false, 8, many(5, 8), nil, 8},
		{"the ninth, at the same time", false, 8, many(101, 1), nil, 8},
		{"the ninth is refused", true, 8, many(101, 1), ErrTooMany, 8},
	} {
		h := &hand{now: 5}
		tab := open(t, h)
		for i, x := range many(1, c.had) {
			_, _, err := tab.Register(h.update("a@x", fmt.Sprint("old", i), 1, x), nil, 0)
			is.NoErr(t, err, c.name)
		}
		u := h.update("a@x", "new", 1, c.send...)
		u.Refuse = c.refuse
		_, _, err := tab.Register(u, nil, 0)
		is.Equal(t, err, c.err, c.name)
		is.Equal(t, tab.Count(), c.left, c.name)
		is.Equal(t, len(tab.Lookup([]byte("a@x"), h.now, nil)), c.left, c.name)
	}
}
