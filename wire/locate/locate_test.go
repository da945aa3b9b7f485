package locate

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

const records = `
full.test.              60 IN NAPTR 50 50 "s" "SIPS+D2T" "" _sips._tcp.full.test.
full.test.              60 IN NAPTR 90 50 "s" "SIP+D2T" "" _sip._tcp.full.test.
full.test.              60 IN NAPTR 90 60 "s" "SIP+D2U" "" _odd._udp.elsewhere.test.
full.test.              60 IN NAPTR 10 50 "u" "E2U+sip" "!^.*$!sip:info@x!" .
full.test.              60 IN NAPTR 10 50 "s" "SIP+D2S" "" _sip._sctp.full.test.
_sips._tcp.full.test.   60 IN SRV 10 1 5071 a.full.test.
_sips._tcp.full.test.   60 IN SRV 5 1 5072 b.full.test.
_sip._tcp.full.test.    60 IN SRV 1 1 5060 a.full.test.
_odd._udp.elsewhere.test. 60 IN SRV 1 1 5099 c.full.test.
a.full.test.            60 IN A 192.0.2.1
b.full.test.            60 IN A 192.0.2.2
b.full.test.            60 IN AAAA 2001:db8::2
c.full.test.            60 IN CNAME d.elsewhere.test.
d.elsewhere.test.       60 IN A 192.0.2.4
_sip._udp.srv.test.     60 IN SRV 1 0 5080 a.full.test.
_sip._tcp.srv.test.     60 IN SRV 1 0 5081 a.full.test.
bare.test.              60 IN A 192.0.2.9
none.test.              60 IN NAPTR 1 1 "s" "SIP+D2U" "" _sip._udp.none.test.
_sip._udp.none.test.    60 IN SRV 0 0 0 .
web.test.               60 IN NAPTR 1 1 "s" "SIPS+D2W" "" _sips._ws.web.test.
_sips._ws.web.test.     60 IN SRV 0 0 8443 bare.test.
loop.test.              60 IN CNAME loop2.test.
loop2.test.             60 IN CNAME loop.test.
.                       60 IN SOA a. b. 1 1 1 1 2
`

// RFC 3263 §4.1 and §4.2, case by case.
func TestLocate(t *testing.T) {
	z := serve(t, records)
	r := z.resolver(Config{Hosts: map[string][]netip.Addr{"Box": {netip.MustParseAddr("127.0.1.2")}},
		Transports: []sip.Transport{sip.TLS, sip.TCP, sip.UDP, sip.WSS}})
	for _, c := range []struct {
		uri  string
		want []string
		err  error
	}{
		{"sip:alice@192.0.2.7", []string{"UDP 192.0.2.7:5060 192.0.2.7"}, nil},
		{"sips:alice@192.0.2.7", []string{"TLS 192.0.2.7:5061 192.0.2.7"}, nil},
		{"sip:alice@192.0.2.7:5070;transport=tcp", []string{"TCP 192.0.2.7:5070 192.0.2.7"}, nil},
		{"sip:alice@[2001:db8::7]:5070", []string{"UDP [2001:db8::7]:5070 [2001:db8::7]"}, nil},
		{"sip:alice@x.test;maddr=192.0.2.8", []string{"UDP 192.0.2.8:5060 192.0.2.8"}, nil},
		{"sip:bare.test:5099", []string{"UDP 192.0.2.9:5099 bare.test"}, nil},
		{"sips:bare.test:5099", []string{"TLS 192.0.2.9:5099 bare.test"}, nil},
		{"sips:bare.test;transport=tcp", []string{"TLS 192.0.2.9:5061 bare.test"}, nil},
		{"sip:BARE.test", []string{"UDP 192.0.2.9:5060 bare.test"}, nil},
		{"sips:full.test", []string{"TLS [2001:db8::2]:5072 full.test", "TLS 192.0.2.2:5072 full.test",
			"TLS 192.0.2.1:5071 full.test"}, nil},
		{"sip:full.test", []string{"TLS [2001:db8::2]:5072 full.test", "TLS 192.0.2.2:5072 full.test",
			"TLS 192.0.2.1:5071 full.test", "TCP 192.0.2.1:5060 full.test", "UDP 192.0.2.4:5099 full.test"}, nil},
		{"sip:full.test;transport=tcp", []string{"TCP 192.0.2.1:5060 full.test"}, nil},
		{"sip:full.test;transport=udp", nil, ErrNotFound}, // no SRV for it, and the name has no address
		{"sip:srv.test", []string{"TCP 192.0.2.1:5081 srv.test", "UDP 192.0.2.1:5080 srv.test"}, nil},
		{"sip:c.full.test:5060", []string{"UDP 192.0.2.4:5060 c.full.test"}, nil},
		{"sip:web.test", []string{"WSS 192.0.2.9:8443 web.test"}, nil},
		{"sip:none.test", nil, ErrUnavailable},
		{"sip:nowhere.test", nil, ErrNotFound},
		{"sip:bare.test;transport=sctp", nil, ErrUnsupported},
		{"sip:bare.test;transport=ws", nil, ErrUnsupported},
		{"sip:box", []string{"UDP 127.0.1.2:5060 box"}, nil},
		{"sip:box;transport=tls", []string{"TLS 127.0.1.2:5061 box"}, nil},
		{"sip:localhost:5070;transport=tcp", []string{"TCP 127.0.0.1:5070 localhost", "TCP [::1]:5070 localhost"}, nil},
	} {
		got, err := locate(t, r, c.uri)
		is.Equal(t, got, c.want, c.uri)
		is.True(t, errors.Is(err, c.err), c.uri, "error")
	}
	_, err := locate(t, r, "sip:loop.test:5060")
	is.Err(t, err, "too long")
}

func TestVia(t *testing.T) {
	z := serve(t, records)
	r := z.resolver(Config{})
	for _, c := range []struct{ via, want string }{
		{"SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1", "UDP 192.0.2.7:5060 192.0.2.7"},
		{"SIP/2.0/TCP bare.test:5099;branch=z9hG4bK1", "TCP 192.0.2.9:5099 bare.test"},
		{"SIP/2.0/TCP full.test;branch=z9hG4bK1", "TCP 192.0.2.1:5060 full.test"},
	} {
		v, err := sip.ParseVia([]byte(c.via))
		is.NoErr(t, err)
		hops, err := r.LocateVia(t.Context(), v)
		is.NoErr(t, err, c.via)
		is.Equal(t, short(hops), []string{c.want}, c.via)
	}
}

func TestFamiliesAndRefusal(t *testing.T) {
	z := serve(t, records)
	for _, c := range []struct {
		config Config
		want   []string
	}{
		{Config{Without6: true}, []string{"UDP 192.0.2.2:9 b.full.test"}},
		{Config{Without4: true}, []string{"UDP [2001:db8::2]:9 b.full.test"}},
		{Config{Refuse: func(a netip.Addr) bool { return a.Is4() }}, []string{"UDP [2001:db8::2]:9 b.full.test"}},
		{Config{Refuse: func(netip.Addr) bool { return true }}, nil},
	} {
		got, _ := locate(t, z.resolver(c.config), "sip:b.full.test:9")
		is.Equal(t, got, c.want)
	}
	got, err := locate(t, z.resolver(Config{Refuse: func(netip.Addr) bool { return true }}), "sip:192.0.2.1:9")
	is.NoErr(t, err)
	is.Equal(t, got, []string{"UDP 192.0.2.1:9 192.0.2.1"}, "a number is the caller's own word")
}

// RFC 2782: by priority, then by chance in proportion to weight.
func TestWeights(t *testing.T) {
	list := []service{{2, 1, 1, "last"}, {1, 0, 1, "zero"}, {1, 30, 1, "three"}, {1, 10, 1, "one"}}
	first := map[string]int{}
	const runs = 1000
	for i := range runs * 41 {
		k := 0
		got := draw(slices.Clone(list), func(n int) int {
			if k++; k == 1 { // the first draw takes each value in turn
				is.Equal(t, n, 41)
				return i % n
			}
			return i % n
		})
		first[got[0].host]++
		is.Equal(t, got[3].host, "last")
		names := []string{got[0].host, got[1].host, got[2].host}
		slices.Sort(names)
		is.Equal(t, names, []string{"one", "three", "zero"})
		if t.Failed() {
			return
		}
	}
	is.Equal(t, first, map[string]int{"three": 30 * runs, "one": 10 * runs, "zero": runs})
}

func TestCacheAndItsTime(t *testing.T) {
	z := serve(t, `short.test. 1 IN A 192.0.2.1
. 60 IN SOA a. b. 1 1 1 1 1`)
	r := z.resolver(Config{Stale: time.Millisecond, Without6: true})
	u, _ := sip.ParseURI([]byte("sip:short.test:5060"))
	_, ok := r.Cached(u)
	is.True(t, !ok, "nothing is known yet")
	is.Equal(t, z.total(), 0, "Cached does not ask about the unknown")
	for range 5 {
		_, err := locate(t, r, "sip:short.test:5060")
		is.NoErr(t, err)
		_, err = locate(t, r, "sip:gone.test:5060")
		is.True(t, errors.Is(err, ErrNotFound), "gone")
	}
	hops, ok := r.Cached(u)
	is.True(t, ok, "known")
	is.Equal(t, short(hops), []string{"UDP 192.0.2.1:5060 short.test"})
	is.Equal(t, []int{z.count("short.test A"), z.count("gone.test A")}, []int{1, 1})
	z.set(t, "short.test. 1 IN A 192.0.2.2\ngone.test. 1 IN A 192.0.2.3")
	time.Sleep(1100 * time.Millisecond)
	_, ok = r.Cached(u)
	is.True(t, !ok, "over")
	got, err := locate(t, r, "sip:short.test:5060")
	is.NoErr(t, err)
	is.Equal(t, got, []string{"UDP 192.0.2.2:5060 short.test"})
	got, err = locate(t, r, "sip:gone.test:5060")
	is.NoErr(t, err)
	is.Equal(t, got, []string{"UDP 192.0.2.3:5060 gone.test"}, "a negative answer ends too")
}

// Those who ask at the same time share one question.
func TestOneQuestionForAll(t *testing.T) {
	z := serve(t, records)
	z.delay.Store(int64(50 * time.Millisecond))
	r := z.resolver(Config{Without6: true})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			got, err := locate(t, r, "sip:bare.test:1")
			is.NoErr(t, err)
			is.Equal(t, got, []string{"UDP 192.0.2.9:1 bare.test"})
		})
	}
	wg.Wait()
	is.Equal(t, z.count("bare.test A"), 1)
}

// A server that is dead, slow or broken does not hurt those who know the answer, even an old one.
func TestDeadServers(t *testing.T) {
	z := serve(t, "x.test. 1 IN A 192.0.2.1")
	r := z.resolver(Config{Without6: true})
	_, err := locate(t, r, "sip:x.test:1")
	is.NoErr(t, err)
	time.Sleep(1100 * time.Millisecond)
	z.silent.Store(true)
	u, _ := sip.ParseURI([]byte("sip:x.test:1"))
	begin := time.Now()
	hops, ok := r.Cached(u)
	is.True(t, ok && time.Since(begin) < 50*time.Millisecond, "the old answer at once")
	is.Equal(t, short(hops), []string{"UDP 192.0.2.1:1 x.test"})
	got, err := locate(t, r, "sip:x.test:1")
	is.NoErr(t, err)
	is.Equal(t, got, []string{"UDP 192.0.2.1:1 x.test"})
	begin = time.Now()
	_, err = locate(t, r, "sip:y.test:1")
	is.Err(t, err, "y.test")
	is.True(t, time.Since(begin) < 2*time.Second, "and the unknown fails after its tries")
	begin = time.Now()
	_, err = locate(t, r, "sip:y.test:1")
	is.True(t, err != nil && time.Since(begin) < 50*time.Millisecond, "the failure is remembered")

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	v, _ := sip.ParseURI([]byte("sip:z.test:1"))
	begin = time.Now()
	_, err = r.Locate(ctx, v)
	is.True(t, errors.Is(err, context.DeadlineExceeded) && time.Since(begin) < 100*time.Millisecond, "the caller's limit")
}

func TestNextServer(t *testing.T) {
	bad, good := serve(t, records), serve(t, records)
	bad.broken.Store(true)
	silent := serve(t, records)
	silent.silent.Store(true)
	r := good.resolver(Config{Servers: []netip.AddrPort{silent.addr, bad.addr, good.addr}, Without6: true})
	got, err := locate(t, r, "sip:bare.test:1")
	is.NoErr(t, err)
	is.Equal(t, got, []string{"UDP 192.0.2.9:1 bare.test"})
	r = New(Config{Servers: []netip.AddrPort{good.addr}, Without6: true,
		Exchange: func(ctx context.Context, msg []byte, s netip.AddrPort, tcp bool) ([]byte, error) {
			b, err := exchange(ctx, msg, s, tcp)
			b[0] ^= 1 // another's answer
			return b, err
		}})
	_, err = locate(t, r, "sip:bare.test:1")
	is.Err(t, err, "another question")
}

func TestTruncated(t *testing.T) {
	z := serve(t, records)
	z.big.Store(true)
	got, err := locate(t, z.resolver(Config{Without6: true}), "sip:bare.test:1")
	is.NoErr(t, err)
	is.Equal(t, got, []string{"UDP 192.0.2.9:1 bare.test"}, "by TCP")
}

func TestCacheIsBounded(t *testing.T) {
	z := serve(t, records)
	r := z.resolver(Config{Entries: 10, Without6: true})
	for _, n := range "abcdefghijklmnopqrstuvwxyz" {
		_, err := locate(t, r, "sip:"+string(n)+".nowhere.test:1")
		is.True(t, errors.Is(err, ErrNotFound), string(n))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	is.Equal(t, len(r.cache), 10)
}

func TestParseFiles(t *testing.T) {
	is.Equal(t, ParseResolv([]byte("# x\nnameserver 192.0.2.1\nsearch a b\nnameserver ::1\nnameserver x\nnameserver 1.1.1.1\nnameserver 2.2.2.2")),
		[]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("[::1]:53"), netip.MustParseAddrPort("1.1.1.1:53")})
	h := ParseHosts([]byte("127.0.0.1 localhost\n10.0.0.1 A.test a # b\nx y\n::1 a\n"))
	is.Equal(t, h["a"], []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1")})
	is.Equal(t, h["a.test"], []netip.Addr{netip.MustParseAddr("10.0.0.1")})
	is.Equal(t, len(h), 3)
}

func BenchmarkCached(b *testing.B) {
	r := New(Config{})
	u, _ := sip.ParseURI([]byte("sip:alice@192.0.2.1:5070;transport=tcp"))
	b.ReportAllocs()
	for b.Loop() {
		r.Cached(u)
	}
}
