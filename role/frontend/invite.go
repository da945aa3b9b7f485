package frontend

import (
	"bytes"
	"slices"
	"strconv"

	"fernamt/core/ident"
	"fernamt/core/route"
	"fernamt/wire/proxy"
	"fernamt/wire/sip"
)

// maxForwards is how often one call may be forwarded, on this server and before it.
const maxForwards = 5

// trip is one call's way through forwardings.
type trip struct {
	f     *role
	now   int64
	at    *ident.Account   // whose phones ring
	seen  []*ident.Account // those who forwarded or are rung
	hops  int              // forwardings so far, those before us counted
	group int
	marks []mark // what Diversion and History-Info shall tell
	orig  string // address that was called first
}

// mark is one forwarding.
type mark struct{ from, to, reason string }

// onInvite rings somebody, or goes where the person has the call forwarded.
func (f *role) onInvite(r *route.Request) {
	a := r.To.Account
	fwd := &a.Forwarding
	plan := proxy.Plan{Element: r.Role, Record: r.Record(), Watch: f.watch(r)}
	if !fwd.DND && fwd.Always == "" && fwd.Busy == "" && fwd.NoAnswer == "" && fwd.Offline == "" && len(fwd.Ring) == 0 {
		plan.Targets = f.phones(r.To.AOR, r.Now, nil, 0)
		if len(plan.Targets) == 0 {
			f.end(&plan, r, 480)
			return
		}
		r.Forward(&plan)
		return
	}
	t := &trip{f: f, now: r.Now, hops: diversions(r.Message), orig: string(r.RequestURI())}
	targets, code := t.ring(a)
	if len(targets) == 0 {
		f.end(&plan, r, code)
		return
	}
	plan.Targets = targets
	plan.More = t.more
	if c := r.Forward(&plan); c != nil {
		t.announce(c, r.Message, 0)
	}
}

// announce tells the caller of forwardings beyond the first n (RFC 3261 §21.1.3).
func (t *trip) announce(c *proxy.Context, m *sip.Message, n int) {
	if len(t.marks) > n {
		_ = c.Server().Respond(m, 181, nil) // too late when the call is over already
	}
}

// end answers a call that goes nowhere.
func (f *role) end(plan *proxy.Plan, r *route.Request, code int) {
	if w, ok := plan.Watch.(*call); ok {
		w.failed(code)
	}
	r.Reply(code, nil)
}

// diversions counts how often a call was forwarded before it came here (RFC 5806).
func diversions(m *sip.Message) (n int) {
	if m.Has(sip.HDiversion) {
		for range m.Values(sip.HDiversion) {
			n++
		}
	}
	return n
}

// ring gives the targets for a call to a, and the status when there are none.
func (t *trip) ring(a *ident.Account) (ts []proxy.Target, code int) {
	for _, s := range t.seen {
		if s.ID == a.ID {
			return nil, 482 // forwarded in a circle
		}
	}
	t.seen = append(t.seen, a)
	t.at = a
	fwd := &a.Forwarding
	switch {
	case a.Disabled:
		return nil, 404
	case fwd.Always != "":
		return t.divert(a, fwd.Always, "unconditional")
	case fwd.DND && fwd.Busy != "":
		return t.divert(a, fwd.Busy, "do-not-disturb")
	case fwd.DND:
		return nil, 486
	}
	ts = t.f.phones([]byte(a.Address), t.now, nil, t.group)
	for i := range ts {
		t.dress(&ts[i])
	}
	for _, other := range fwd.Ring {
		ts = append(ts, t.also(other)...)
	}
	if len(ts) == 0 {
		if fwd.Offline != "" {
			return t.divert(a, fwd.Offline, "unavailable")
		}
		return nil, 480
	}
	// Who rings along does so with the first group.
	slices.SortStableFunc(ts, func(x, y proxy.Target) int { return x.Group - y.Group })
	if fwd.NoAnswer != "" {
		for i := range ts {
			ts[i].Ring = fwd.RingTime()
		}
	}
	t.group = ts[len(ts)-1].Group + 1
	return ts, 0
}

// also gives the targets of a number or person that rings along, without that one's
// own forwardings.
func (t *trip) also(target string) []proxy.Target {
	b := t.f.person(target)
	if b == nil {
		if x, ok := outside(target); ok {
			x.Group = t.group
			t.dress(&x)
			return []proxy.Target{x}
		}
		return nil
	}
	if b.Disabled || b.Forwarding.DND || b.ID == t.at.ID {
		return nil
	}
	ts := t.f.phones([]byte(b.Address), t.now, nil, t.group)
	for i := range ts {
		ts[i].Group = t.group
		t.dress(&ts[i])
	}
	return ts
}

// outside is a target in a foreign domain.
func outside(target string) (proxy.Target, bool) {
	if bytes.IndexByte([]byte(target), '@') < 0 {
		return proxy.Target{}, false // TODO RFC 3966: a number needs role/mediation
	}
	return proxy.Target{URI: []byte("sip:" + target)}, true
}

// divert sends the call on to target for the reason given (RFC 5806 §4).
func (t *trip) divert(a *ident.Account, target, reason string) ([]proxy.Target, int) {
	if t.hops++; t.hops > maxForwards {
		return nil, 482
	}
	t.marks = append(t.marks, mark{a.Address, target, reason})
	b := t.f.person(target)
	if b == nil {
		x, ok := outside(target)
		if !ok {
			return nil, 404
		}
		x.Group = t.group
		t.dress(&x)
		t.at = &ident.Account{} // whoever it is, we know no forwarding of theirs
		t.group++
		return []proxy.Target{x}, 0
	}
	return t.ring(b)
}

// more is asked when nobody took the call; code says why.
func (t *trip) more(c *proxy.Context, code int) ([]proxy.Target, bool) {
	to, reason := t.onward(code, c.Heard())
	if to == "" {
		return nil, false
	}
	t.now = t.f.gate.Now()
	before := len(t.marks)
	ts, _ := t.divert(t.at, to, reason)
	if len(ts) > 0 {
		t.announce(c, c.Request(), before)
	}
	return ts, false
}

// onward says where a call goes that ended with code, and why; heard: a phone rang or
// answered. A 6xx ends the search before anybody is asked (RFC 3261 §16.7 step 5).
func (t *trip) onward(code int, heard bool) (to, reason string) {
	fwd := &t.at.Forwarding
	unreachable := false
	switch code {
	case 486:
		return fwd.Busy, "user-busy"
	case 430, 503:
		unreachable = true
	case 480: // ours for a dead link; some phones say so when nobody comes
		unreachable = !heard && fwd.Offline != ""
	case 408:
		unreachable = !heard && fwd.NoAnswer == ""
	case 487:
	default:
		return "", ""
	}
	if unreachable {
		return fwd.Offline, "unavailable"
	}
	return fwd.NoAnswer, "no-answer"
}

// dress has a target's request tell how it came to be forwarded.
func (t *trip) dress(x *proxy.Target) {
	if len(t.marks) == 0 {
		return
	}
	marks, orig := t.marks[:len(t.marks):len(t.marks)], t.orig
	x.Edit = func(m *sip.Message) { tell(m, marks, orig) }
}

// tell adds Diversion, newest first (RFC 5806 §4.1), and History-Info (RFC 7044 §10.3).
func tell(m *sip.Message, marks []mark, orig string) {
	for _, k := range marks {
		m.Prepend(sip.HDiversion, []byte("<"+uriOf(k.from)+">;reason="+k.reason+";counter=1"))
	}
	index := lastIndex(m)
	if index == "" {
		index = "1"
		m.Add(sip.HHistoryInfo, []byte("<"+orig+">;index=1"))
	}
	for _, k := range marks {
		parent := index
		index += ".1"
		m.Add(sip.HHistoryInfo, []byte("<"+uriOf(k.to)+cause(k.reason)+">;index="+index+";mp="+parent))
	}
}

func uriOf(target string) string {
	if bytes.IndexByte([]byte(target), '@') < 0 {
		return "tel:" + target
	}
	return "sip:" + target
}

// cause is RFC 4458 §3.2.
func cause(reason string) string {
	n := map[string]int{"user-busy": 486, "no-answer": 408, "unavailable": 480, "unconditional": 302, "do-not-disturb": 486}[reason]
	return ";cause=" + strconv.Itoa(n)
}

func lastIndex(m *sip.Message) string {
	last := ""
	if !m.Has(sip.HHistoryInfo) {
		return last
	}
	for v := range m.Values(sip.HHistoryInfo) {
		if a, err := sip.ParseAddress(v); err == nil {
			if i, ok := a.Param("index"); ok {
				last = string(i)
			}
		}
	}
	return last
}
