package locate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"fernamt/wire/clock"
	"fernamt/wire/sip"
)

// key names a set of records.
type key struct {
	name string
	kind uint16
}

// answer is what is known about a key. It does not change once it is in the cache.
type answer struct {
	naptrs   []pointer
	services []service
	addrs    []netip.Addr
	err      error // ErrNotFound, ErrUnavailable, or why nobody answered
	until    int64 // clock.Mono
	stale    int64 // until then it may serve when nobody answers
}

// pointer is a NAPTR record that speaks of SIP.
type pointer struct {
	order, preference uint16
	service           string
	replacement       string
}

// service is an SRV record.
type service struct {
	priority, weight uint16
	port             uint16
	host             string
}

// offer is a transport that a domain offers.
type offer struct {
	transport   sip.Transport
	replacement string
}

// question is one that is under way, for all who wait.
type question struct {
	done   chan struct{}
	answer *answer
}

// get gives the records of a key: from the cache, or by asking and waiting.
func (w *walk) get(name string, kind uint16) (*answer, error) {
	k := key{fold(name), kind}
	r := w.r
	r.mu.Lock()
	a := r.cache[k]
	now := clock.Mono()
	if a != nil && now < a.until {
		r.mu.Unlock()
		return a, a.err
	}
	if a != nil && (now > a.stale || a.err != nil) {
		a = nil
	}
	if w.ctx == nil && a == nil { // only a waiting caller starts a search
		r.mu.Unlock()
		w.missing = true
		return nil, errMissing
	}
	q := r.asking[k]
	if q == nil && len(r.asking) >= maxAsking {
		r.mu.Unlock()
		return nil, errBusy
	}
	if q == nil {
		q = &question{done: make(chan struct{})}
		r.asking[k] = q
		go r.ask(k, q)
	}
	r.mu.Unlock()
	if w.ctx == nil {
		return a, a.err
	}
	var enough <-chan time.Time
	if a != nil { // RFC 8767 §5: do not let the caller wait long while there is an old answer
		t := time.NewTimer(staleWait)
		defer t.Stop()
		enough = t.C
	}
	select {
	case <-q.done:
		if a != nil && q.answer.err != nil && !decided(q.answer.err) {
			return a, a.err
		}
		return q.answer, q.answer.err
	case <-enough:
		return a, a.err
	case <-w.ctx.Done():
		return nil, w.ctx.Err()
	}
}

// decided says that an error is the domain's own word, not a server's failure.
func decided(err error) bool { return errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnavailable) }

// ask puts a question to the servers and the answer into the cache.
func (r *Resolver) ask(k key, q *question) {
	a, err := r.survive(k)
	if err != nil {
		// RFC 2308 §7.1: remember a failure for a short while.
		a = &answer{err: fmt.Errorf("dns %s: %w", k.name, err), until: age(5 * time.Second)}
	}
	a.stale = a.until + int64(r.c.Stale)
	r.mu.Lock()
	old := r.cache[k]
	if err == nil || old == nil || old.err != nil || clock.Mono() > old.stale {
		r.storeLocked(k, a)
	} else {
		// The old answer goes on serving; do not ask again at once.
		again := *old
		again.until = age(5 * time.Second)
		r.cache[k] = &again
	}
	delete(r.asking, k)
	r.mu.Unlock()
	q.answer = a
	close(q.done)
}

// survive is resolve, whose panic over some answer costs that question only.
func (r *Resolver) survive(k key) (a *answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("answer is unreadable: %v", v)
		}
	}()
	return r.resolve(k)
}

// storeLocked makes room when the cache is full: what is over goes first, then whatever the map shows.
func (r *Resolver) storeLocked(k key, a *answer) {
	if _, have := r.cache[k]; !have && len(r.cache) >= r.c.Entries {
		now, seen := clock.Mono(), 0
		var victim key
		for o, v := range r.cache {
			victim = o
			if seen++; v.until < now || seen >= 32 {
				break
			}
		}
		delete(r.cache, victim)
	}
	r.cache[k] = a
}

// resolve asks each server in turn, and follows CNAMEs that the server did not follow itself.
func (r *Resolver) resolve(k key) (*answer, error) {
	name, ttl := k.name, uint32(24*3600)
	for range maxChain {
		m, err := r.exchange(dns.Fqdn(name), k.kind)
		if err != nil {
			return nil, err
		}
		a, next := read(m, name, k.kind, &ttl)
		if next == "" {
			return a, nil
		}
		name = next
	}
	return nil, errors.New("chain of aliases is too long")
}

// exchange asks until somebody answers.
func (r *Resolver) exchange(name string, kind uint16) (*dns.Msg, error) {
	r.mu.Lock()
	servers := r.servers
	r.mu.Unlock()
	if len(servers) == 0 || r.c.Exchange == nil {
		return nil, errors.New("no server to ask")
	}
	var last error
	for range tries {
		for _, s := range servers {
			m, err := r.exchangeOne(name, kind, s, false)
			if err == nil && m.Truncated {
				m, err = r.exchangeOne(name, kind, s, true)
			}
			if err == nil {
				return m, nil
			}
			last = err
		}
	}
	return nil, last
}

func (r *Resolver) exchangeOne(name string, kind uint16, server netip.AddrPort, tcp bool) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(name, kind)
	q.SetEdns0(1232, false)
	raw, err := q.Pack()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.c.Patience)
	defer cancel()
	raw, err = r.c.Exchange(ctx, raw, server, tcp)
	if err != nil {
		return nil, err
	}
	m := new(dns.Msg)
	if err := m.Unpack(raw); err != nil {
		return nil, err
	}
	if m.Id != q.Id || !m.Response || len(m.Question) != 1 || !strings.EqualFold(m.Question[0].Name, name) ||
		m.Question[0].Qtype != kind {
		return nil, errors.New("answer to another question")
	}
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return nil, errors.New("server says " + dns.RcodeToString[m.Rcode])
	}
	return m, nil
}

// read takes the records of name and kind out of m. next is the name to ask for instead when m ends with an alias.
func read(m *dns.Msg, name string, kind uint16, ttl *uint32) (a *answer, next string) {
	a = &answer{}
	owner := fold(name)
	for range maxChain {
		alias := ""
		for _, rr := range m.Answer {
			if fold(rr.Header().Name) != owner {
				continue
			}
			if c, ok := rr.(*dns.CNAME); ok && kind != dns.TypeCNAME {
				alias = fold(c.Target)
				*ttl = min(*ttl, rr.Header().Ttl)
			} else if a.take(rr) {
				*ttl = min(*ttl, rr.Header().Ttl)
			}
		}
		if alias == "" || !a.empty() {
			break
		}
		owner = alias
	}
	if a.empty() && a.err == nil {
		if owner != fold(name) && m.Rcode == dns.RcodeSuccess && !denied(m) {
			return nil, owner
		}
		a.err, *ttl = ErrNotFound, negative(m)
	}
	a.until = age(time.Duration(max(*ttl, 1)) * time.Second)
	return a, ""
}

func (a *answer) empty() bool { return len(a.naptrs)+len(a.services)+len(a.addrs) == 0 }

// take adds a record.
func (a *answer) take(rr dns.RR) bool {
	switch rr := rr.(type) {
	case *dns.A:
		if v, ok := netip.AddrFromSlice(rr.A); ok {
			a.addrs = append(a.addrs, v.Unmap())
		}
	case *dns.AAAA:
		if v, ok := netip.AddrFromSlice(rr.AAAA); ok {
			a.addrs = append(a.addrs, v)
		}
	case *dns.SRV:
		if rr.Target == "." { // RFC 2782: decidedly not available
			a.err = ErrUnavailable
			return true
		}
		a.services = append(a.services, service{rr.Priority, rr.Weight, rr.Port, fold(rr.Target)})
	case *dns.NAPTR:
		// RFC 3263 §4.1: only "s" leads on; others are not for SIP.
		if strings.EqualFold(rr.Flags, "s") && rr.Regexp == "" {
			a.naptrs = append(a.naptrs, pointer{rr.Order, rr.Preference, strings.ToUpper(rr.Service),
				fold(rr.Replacement)})
		}
	default:
		return false
	}
	return true
}

// denied says that m proves that there is nothing: it carries the zone's SOA.
func denied(m *dns.Msg) bool {
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
}

// negative is how many seconds "there is none" holds: RFC 2308 §5, a minute without SOA, five minutes at most.
func negative(m *dns.Msg) uint32 {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(soa.Minttl, soa.Hdr.Ttl, 300)
		}
	}
	return 60
}

// naptr gives the transports that a domain offers and we speak, in the domain's order (RFC 3263 §4.1).
func (w *walk) naptr(domain string, secure bool) ([]offer, error) {
	a, err := w.get(domain, dns.TypeNAPTR)
	if err != nil {
		return nil, err
	}
	list := slices.Clone(a.naptrs)
	slices.SortStableFunc(list, func(x, y pointer) int {
		return cmp.Or(cmp.Compare(x.order, y.order), cmp.Compare(x.preference, y.preference))
	})
	var offers []offer
	for _, p := range list {
		t, ok := naptrServices[p.service]
		if !ok || secure && !t.Secure() || !w.speaks(t) {
			continue
		}
		offers = append(offers, offer{t, p.replacement})
	}
	return offers, nil
}

// naptrServices are the services of RFC 3263 §4.1 and RFC 7118 §8.
var naptrServices = map[string]sip.Transport{"SIP+D2U": sip.UDP, "SIP+D2T": sip.TCP, "SIPS+D2T": sip.TLS,
	"SIP+D2W": sip.WS, "SIPS+D2W": sip.WSS}

// srv gives the servers of a service, in the order of one draw by weight (RFC 2782).
func (w *walk) srv(name string) ([]service, error) {
	a, err := w.get(name, dns.TypeSRV)
	if err != nil {
		return nil, err
	}
	if len(a.services) == 0 {
		return nil, ErrNotFound
	}
	return draw(slices.Clone(a.services), rand.IntN), nil
}

// draw orders servers by priority, and those of one priority by chance according to weight.
func draw(list []service, chance func(n int) int) []service {
	// Those of weight 0 stand first, so that they have a small chance.
	slices.SortStableFunc(list, func(x, y service) int {
		return cmp.Or(cmp.Compare(x.priority, y.priority), cmp.Compare(x.weight, y.weight))
	})
	for i := range list {
		end, sum := i, 0
		for end < len(list) && list[end].priority == list[i].priority {
			sum += int(list[end].weight)
			end++
		}
		pick, at := chance(sum+1), i
		for run := int(list[at].weight); run < pick; run += int(list[at].weight) {
			at++
		}
		chosen := list[at]
		copy(list[i+1:at+1], list[i:at])
		list[i] = chosen
	}
	return list
}

// addresses gives a host's addresses: itself, from the table, or by asking for both families at once. IPv6 stands first,
// as RFC 6724 has it.
func (w *walk) addresses(host string) ([]netip.Addr, error) {
	if a, ok := numeric(host); ok {
		return some(w.wanted([]netip.Addr{a}, false))
	}
	if list, ok := w.r.c.Hosts[fold(host)]; ok {
		return some(w.wanted(list, false))
	}
	kinds := []uint16{dns.TypeAAAA, dns.TypeA}
	answers, errs := make([]*answer, 2), make([]error, 2)
	ask := func(i int) { answers[i], errs[i] = w.get(host, kinds[i]) }
	switch {
	case w.r.c.Without6:
		ask(1)
	case w.r.c.Without4:
		ask(0)
	case w.ctx == nil:
		ask(0)
		ask(1)
	default:
		done := make(chan struct{})
		go func() { defer close(done); ask(0) }()
		ask(1)
		<-done
	}
	var addrs []netip.Addr
	for _, a := range answers {
		if a != nil {
			addrs = append(addrs, w.wanted(a.addrs, true)...)
		}
	}
	if len(addrs) > 0 {
		return addrs, nil
	}
	for _, err := range errs {
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	return nil, ErrNotFound
}

func some(addrs []netip.Addr) ([]netip.Addr, error) {
	if len(addrs) == 0 {
		return nil, ErrNotFound
	}
	return addrs, nil
}
