package route

import (
	"bytes"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"runtime/metrics"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"fernamt/wire/sip"
)

// Limits says what strangers may try and what the process may hold. Zero fields
// mean the defaults.
type Limits struct {
	PerAddress   int           // requests per second and source address; 0: no limit
	UserFailures int           // failed logins for one user in a minute; 10
	AddrFailures int           // failed logins from one address in a minute; 30
	Ban          time.Duration // how long a ban lasts; 10 min
	Transactions int           // held at once; 200,000
	Memory       uint64        // octets of heap; 0: no limit
	Delay        time.Duration // how late the process may be; 250 ms
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.UserFailures, 10)
	set(&l.AddrFailures, 30)
	set(&l.Transactions, 200000)
	if l.Ban == 0 {
		l.Ban = 10 * time.Minute
	}
	if l.Delay == 0 {
		l.Delay = 250 * time.Millisecond
	}
	return l
}

// patience is how many looks in a row must find too much before requests are refused:
// a busy neighbour on the machine makes us late once, a flood does so again and again.
const patience = 4

const (
	failWindow = int64(time.Minute)
	watchParts = 64
	watchMax   = 4096 // addresses or users remembered per part; the oldest go
	knownSize  = 1 << 15
)

// guard counts what strangers do. Each part's mutex guards its map. The usual
// request costs one load of quiet.
type guard struct {
	Limits
	seed  maphash.Seed
	parts [watchParts]watch
	bans  atomic.Int64             // bans that may be in force
	known [knownSize]atomic.Uint64 // hashes of user and address that signed in
	shed  atomic.Int32             // 0 to 100: share of new requests to refuse
	bad   int                      // looks in a row that found too much; observe's alone
	count struct {
		limited, banned, scanners, shed, failures atomic.Uint64
	}
}

type watch struct {
	mu sync.Mutex
	m  map[uint64]*record
}

// record is what is remembered of one address or user.
type record struct {
	tokens float64 // of the bucket
	filled int64   // when it was last filled
	fails  int
	since  int64 // start of the minute in which fails are counted
	until  int64 // end of a ban
}

func newGuard(l Limits) *guard {
	g := &guard{Limits: l.withDefaults(), seed: maphash.MakeSeed()}
	for i := range g.parts {
		g.parts[i].m = map[uint64]*record{}
	}
	return g
}

func (g *guard) addr(a netip.Addr) uint64 {
	if a.Is6() && !a.Is4In6() { // a person has a whole /64
		if p, err := a.WithZone("").Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	b := a.As16()
	return maphash.Bytes(g.seed, b[:])
}

// user hashes a login name; unknown ones are counted as well, so that they cannot be
// told from known ones.
func (g *guard) user(name, realm []byte) uint64 {
	return maphash.Bytes(g.seed, name) ^ maphash.Bytes(g.seed, realm)*3 | 1
}

func (g *guard) pair(user, addr uint64) uint64 { return (user ^ addr*0x9E3779B97F4A7C15) | 1 }

// note calls f on the record of h, which is made when it is not there.
func (g *guard) note(h uint64, now int64, f func(r *record)) {
	w := &g.parts[h%watchParts]
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.m[h]
	if r == nil {
		if len(w.m) >= watchMax {
			g.forgetLocked(w, now)
		}
		r = &record{tokens: float64(2 * g.PerAddress), filled: now}
		w.m[h] = r
	}
	f(r)
}

// forgetLocked makes room: first what does not matter any more, then anything that is no ban.
func (g *guard) forgetLocked(w *watch, now int64) {
	for h, r := range w.m {
		if r.until <= now && now-r.since > failWindow {
			g.dropLocked(w, h, r)
		}
	}
	for h, r := range w.m {
		if len(w.m) < watchMax*3/4 {
			break
		}
		if r.until <= now {
			g.dropLocked(w, h, r)
		}
	}
	if len(w.m) >= watchMax { // nothing but bans: the table is not there to be filled
		for h, r := range w.m {
			g.dropLocked(w, h, r)
		}
	}
}

func (g *guard) dropLocked(w *watch, h uint64, r *record) {
	if r.until != 0 {
		g.bans.Add(-1)
	}
	delete(w.m, h)
}

// allowed takes a token out of the address's bucket.
func (g *guard) allowed(a netip.Addr, now int64) bool {
	if g.PerAddress == 0 {
		return true
	}
	ok := false
	g.note(g.addr(a), now, func(r *record) {
		rate := float64(g.PerAddress)
		r.tokens = min(2*rate, r.tokens+rate*float64(now-r.filled)/float64(time.Second))
		r.filled = now
		if r.tokens >= 1 {
			r.tokens--
			ok = true
		}
	})
	if !ok {
		g.count.limited.Add(1)
	}
	return ok
}

// banned says whether h, an address or a user, is banned.
func (g *guard) banned(h uint64, now int64) bool {
	if g.bans.Load() == 0 {
		return false
	}
	w := &g.parts[h%watchParts]
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.m[h]
	if r == nil || r.until == 0 {
		return false
	}
	if r.until <= now {
		r.until, r.fails = 0, 0
		g.bans.Add(-1)
		return false
	}
	return true
}

func (g *guard) ban(h uint64, now int64) {
	g.note(h, now, func(r *record) {
		if r.until == 0 {
			g.bans.Add(1)
		}
		r.until = now + int64(g.Ban)
	})
}

// failed books a wrong password and bans who had too many. user is 0 for an unknown one.
func (g *guard) failed(user, addr uint64, now int64) (banned bool) {
	g.count.failures.Add(1)
	for _, x := range [...]struct {
		h   uint64
		max int
	}{{user, g.UserFailures}, {addr, g.AddrFailures}} {
		if x.h == 0 || x.max < 0 {
			continue
		}
		over := false
		g.note(x.h, now, func(r *record) {
			if now-r.since > failWindow {
				r.since, r.fails = now, 0
			}
			r.fails++
			over = r.fails >= x.max
		})
		if over {
			g.ban(x.h, now)
			banned = true
		}
	}
	return banned
}

// succeeded remembers that this user signs in from this address: a ban that others
// bring about does not lock the person out.
func (g *guard) succeeded(user, addr uint64) {
	p := g.pair(user, addr)
	slot := &g.known[p%knownSize]
	if slot.Load() != p {
		slot.Store(p)
	}
}

func (g *guard) isKnown(user, addr uint64) bool {
	p := g.pair(user, addr)
	return g.known[p%knownSize].Load() == p
}

// Tools that look for open exchanges and leave their name.
var scanners = [...][]byte{[]byte("friendly-scanner"), []byte("friendly-request"), []byte("sipvicious"), []byte("sipcli"),
	[]byte("sundayddr"), []byte("sip-scan"), []byte("smap"), []byte("pplsip"), []byte("vaxsipuseragent"), []byte("sipsak-scan"), []byte("iwar")}

// scanner looks at User-Agent. It is asked only for requests that nothing vouches for.
func scanner(m *sip.Message) bool {
	ua := m.Get(sip.HUserAgent)
	if len(ua) == 0 {
		return false
	}
	var low [64]byte
	n := 0
	for n < len(ua) && n < len(low) {
		c := ua[n]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		low[n] = c
		n++
	}
	for _, s := range scanners {
		if bytes.Contains(low[:n], s) {
			return true
		}
	}
	return false
}

// underWay tells what passes every limit: a dialog that lives goes on, and what ends a
// call frees room. Who forges a To tag gets no further than to the question who they are.
func underWay(m *sip.Message) bool {
	switch m.Method() {
	case sip.ACK, sip.BYE, sip.CANCEL, sip.PRACK, sip.UPDATE:
		return true
	}
	return len(m.ToTag()) > 0
}

// overloaded says whether a request that begins something is to be turned away.
func (g *Gate) overloaded() bool {
	if n := g.held.Load(); int(n) >= g.guard.Transactions {
		g.guard.count.shed.Add(1)
		return true
	}
	p := g.guard.shed.Load()
	if p == 0 || int32(rand.IntN(100)) >= p {
		return false
	}
	g.guard.count.shed.Add(1)
	return true
}

// retryAfter is spread, so that those turned away do not come back together.
func retryAfter() []byte {
	return append(strconv.AppendInt([]byte("Retry-After: "), int64(5+rand.IntN(15)), 10), '\r', '\n')
}

// observe looks four times a second at memory and at how late this goroutine itself
// is, and sets how much to shed. Steps up are quick, steps down slow.
func (g *Gate) observe(now, due int64) {
	st := g.trans.Stats()
	g.held.Store(st.Servers + st.Clients)
	late := time.Duration(now - due)
	bad := late > g.guard.Delay
	if g.guard.Memory > 0 && !bad {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		bad = s[0].Value.Kind() == metrics.KindUint64 && s[0].Value.Uint64() > g.guard.Memory
	}
	p := g.guard.shed.Load()
	if bad {
		g.guard.bad++
	} else {
		g.guard.bad = 0
		p = max(0, p-10)
	}
	if g.guard.bad >= patience {
		p = min(95, p+20)
	}
	g.guard.shed.Store(p)
}
