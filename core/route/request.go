package route

import (
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"net/netip"
	"time"

	"fernamt/core/ident"
	"fernamt/core/location"
	"fernamt/wire/proxy"
	"fernamt/wire/sip"
)

// How says what vouches for a request.
type How uint8

// What can vouch, weakest first.
const (
	Nobody  How = iota // only what needs no sign-in: OPTIONS to the server, ACK
	Dialog             // a flow token: the request is part of a dialog that was admitted
	User               // Digest, or the connection that Digest was done on
	Trusted            // the address it came from, at the role's own door
	Peer               // a server of the topology, or a role of this process
)

// Identity is who a request is from.
type Identity struct {
	How     How
	Account *ident.Account // nil: none of ours
	Peer    string         // name of the server that brought it
}

// Kind says what a request is for.
type Kind uint8

// The kinds of targets.
const (
	Self     Kind = iota + 1 // the role itself: REGISTER, OPTIONS without a user
	App                      // another role, by address or opaque=app:
	Account                  // somebody who lives here
	Endpoint                 // one phone of somebody, by GRUU
	Within                   // a dialog, by the token in its Route
	Onward                   // where Route or a foreign domain lead
)

// Target is who a request is for.
type Target struct {
	Kind    Kind
	Account *ident.Account
	AOR     []byte           // key of the registrations, for Account and Endpoint
	Binding location.Binding // Endpoint
	Role    string           // App
	Next    proxy.Target     // Within, Onward
}

// Request is a request that passed the gate. It is valid until its handler returns;
// Clone what must stay.
type Request struct {
	*sip.Message
	Role string // whose handler it is
	From Identity
	To   Target
	Now  int64 // monotonic ns

	gate    *Gate
	from    []byte // canonical From address
	aor     []byte
	extra   []byte
	up      side // of the token found
	down    side
	token   bool
	to      side // where the token says that the request goes
	known   bool // to is sure
	outside bool // Via a link to nobody known: what it claims is not believed
}

// FromAOR is the canonical address in From.
func (r *Request) FromAOR() []byte { return r.from }

// Gate is the gate that the request passed.
func (r *Request) Gate() *Gate { return r.gate }

// reset makes r ready for m.
func (r *Request) reset(m *sip.Message) {
	*r = Request{Message: m, Now: m.At, gate: r.gate, from: r.from[:0], aor: r.aor[:0], extra: r.extra[:0]}
}

// request passes m through the gate.
func (g *Gate) request(m *sip.Message) {
	r := g.requests.Get().(*Request)
	r.reset(m)
	g.stats.requests[m.Method()].Add(1)
	if err := g.pass(r); err != nil {
		g.refuse(r, err)
	} else if h := g.scene.Load().handlers[r.Role]; h != nil {
		h(r)
	} else {
		r.Reply(503, retryAfter())
	}
	r.Message = nil
	g.requests.Put(r)
}

// errDrop ends a request without an answer.
var errDrop = &sip.Error{Drop: true}

// pass is the gate: limit, identify, admit, resolve.
func (g *Gate) pass(r *Request) error {
	if g.acknowledges(r.Message) {
		return errDrop
	}
	sc := g.scene.Load()
	info := r.Flow.Link.Info()
	d := sc.doors[info.Door]
	if d != nil {
		r.Role = d.role
	} else {
		r.Role = sc.roleAt(info)
	}
	if err := g.limit(r, info, d); err != nil {
		return err
	}
	if err := g.identify(sc, r, info); err != nil {
		return err
	}
	registers := r.Method() == sip.REGISTER
	if !registers {
		if err := g.proxy.Validate(r.Message, r.Role); err != nil {
			return err
		}
	}
	if err := g.admit(r); err != nil {
		return err
	}
	if err := g.resolve(sc, r); err != nil {
		return err
	}
	if registers && r.To.Kind != Self { // one that ends here may do so whatever its Max-Forwards
		return g.proxy.Validate(r.Message, r.Role)
	}
	if r.From.How == Nobody && r.strays() {
		return errDrop
	}
	return nil
}

// strays says that an ACK which nothing vouches for would go further than to the role
// that it came to. That one may have answered the call itself; through us goes only
// an ACK with the dialog's token.
func (r *Request) strays() bool {
	return r.Method() == sip.ACK && r.To.Kind != Self && (r.To.Kind != App || r.To.Role != r.Role)
}

// roleAt is the role that a link without a door belongs to. What comes over a connection that we
// dialled belongs to the role that takes requests from peers.
func (s *scene) roleAt(info *sip.LinkInfo) string {
	if info.Transport == sip.Local {
		return s.roleOf[info.ID]
	}
	for _, role := range [...]string{registrar, "director"} {
		if s.handlers[role] != nil {
			return role
		}
	}
	return ""
}

// limit is the first step: is the message sound, its sender patient, the process well?
func (g *Gate) limit(r *Request, info *sip.LinkInfo, d *doorway) error {
	if info.Transport != sip.Local {
		if err := r.Check(); err != nil {
			return err
		}
	}
	r.outside = info.Transport != sip.Local && !d.trusts(r.Flow.Remote.Addr()) && !g.isPeer(info)
	if !r.outside || underWay(r.Message) {
		return nil
	}
	if g.overloaded() {
		return &sip.Error{Status: 503, Headers: []string{string(bytes.TrimSpace(retryAfter()))}}
	}
	if !g.guard.allowed(r.Flow.Remote.Addr(), r.Now) {
		return &sip.Error{Status: 503, Headers: []string{"Retry-After: 5"}}
	}
	return nil
}

// trusts says whether who comes from a counts as signed in at this door.
func (d *doorway) trusts(a netip.Addr) bool {
	if d == nil {
		return false
	}
	for _, p := range d.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// refuse answers a request that does not pass.
func (g *Gate) refuse(r *Request, err error) {
	e, ok := err.(*sip.Error) // errors.As would leave garbage for every challenge
	if !ok {
		e = g.explain(r, err)
	}
	if e.Drop || r.Method() == sip.ACK {
		return
	}
	r.extra = r.extra[:0]
	for _, h := range e.Headers {
		r.extra = append(append(r.extra, h...), '\r', '\n')
	}
	g.reply(r.Message, e.Status, e.Reason, r.extra)
}

// explain finds what the peer should see of an error; it is nobody's business what
// went wrong inside.
func (g *Gate) explain(r *Request, err error) *sip.Error {
	var e *sip.Error
	if !errors.As(err, &e) {
		g.log.Error("request not handled", "role", r.Role, "err", err)
		e = &sip.Error{Status: 500}
	}
	return e
}

// Reply answers statelessly: the same request gets the same answer again (RFC 3261
// §8.2.7). extra holds whole header lines.
func (r *Request) Reply(code int, extra []byte) { r.gate.reply(r.Message, code, "", extra) }

// Refuse answers with what err says: a sip.Status, else 500.
func (r *Request) Refuse(err error) { r.gate.refuse(r, err) }

func (g *Gate) reply(m *sip.Message, code int, reason string, extra []byte) {
	if m.Method() == sip.ACK {
		return
	}
	g.stats.replies[code%len(g.stats.replies)].Add(1)
	var tag [16]byte
	if reason == "" {
		g.trans.Reply(m, code, g.toTag(tag[:0], m), extra)
		return
	}
	b := sip.AppendReply(nil, m, sip.Reply{Code: code, Reason: reason, ToTag: g.toTag(tag[:0], m), Extra: extra})
	if err := m.ReplyFlow().Send(b); err != nil {
		g.log.Debug("answer not sent", "err", err)
	}
}

// acknowledges says whether m is the ACK for an answer that we gave statelessly to an
// INVITE: no transaction takes it, and it is nobody else's business.
func (g *Gate) acknowledges(m *sip.Message) bool {
	if m.Method() != sip.ACK {
		return false
	}
	var tag [16]byte
	return bytes.Equal(m.ToTag(), g.toTag(tag[:0], m))
}

// toTag makes a To tag that is the same for each retransmission, and for the ACK.
func (g *Gate) toTag(dst []byte, m *sip.Message) []byte {
	var h maphash.Hash
	h.SetSeed(g.seed)
	h.Write(m.CallID())
	h.WriteByte(0)
	h.Write(m.FromTag())
	h.WriteByte(0)
	number, _, _ := bytes.Cut(m.Get(sip.HCSeq), []byte(" "))
	h.Write(number)
	sum := h.Sum64()
	const digits = "0123456789abcdef"
	for i := range 16 {
		dst = append(dst, digits[sum>>(60-4*i)&15])
	}
	return dst
}

// Forward sends the request along plan. Targets that have neither flow nor hops are
// looked up by their URI first, which may take a while; the handler need not wait.
func (r *Request) Forward(plan *proxy.Plan) *proxy.Context {
	g := r.gate
	if r.Method() == sip.ACK {
		for i := range plan.Targets[:min(1, len(plan.Targets))] {
			g.passACK(r.Message, plan.Element, &plan.Targets[i])
		}
		return nil
	}
	ready, way := true, nextURI(r.Message)
	for i := range plan.Targets {
		ready = g.prepare(&plan.Targets[i], way) && ready
	}
	if ready {
		return g.proxy.Forward(r.Message, plan)
	}
	c := g.proxy.Begin(r.Message)
	if c == nil {
		return nil
	}
	m, p := r.Clone(), *plan
	p.Targets = append([]proxy.Target(nil), plan.Targets...)
	go func() {
		defer c.Survive(m)
		ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
		defer cancel()
		g.locate(ctx, p.Targets, nextURI(m))
		c.Go(m, &p)
	}()
	return c
}

// nextURI is where a request goes that has no target of its own: its first Route, else
// its Request-URI (RFC 3261 §16.6 step 7).
func nextURI(m *sip.Message) []byte {
	if v := m.First(sip.HRoute); v != nil {
		if a, err := sip.ParseAddress(v); err == nil {
			return a.RawURI
		}
	}
	return m.RequestURI()
}

const lookupTime = 10 * time.Second

func (g *Gate) passACK(m *sip.Message, element string, t *proxy.Target) {
	if g.prepare(t, nextURI(m)) {
		g.proxy.Pass(m, element, t)
		return
	}
	own, target := m.Clone(), *t
	go func() {
		defer g.survive()
		ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
		defer cancel()
		list := []proxy.Target{target}
		g.locate(ctx, list, nextURI(own))
		g.proxy.Pass(own, element, &list[0])
	}()
}

// Onward forwards the request to the target that the gate found, with Record-Route
// when it may begin a dialog. watch may be nil.
func (r *Request) Onward(watch proxy.Watcher) {
	plan := proxy.Plan{Element: r.Role, Targets: []proxy.Target{r.To.Next}, Watch: watch}
	if r.begins() {
		plan.Record = r.gate.record
	}
	r.Forward(&plan)
}

// begins says whether the request may begin a dialog in which we stay.
func (r *Request) begins() bool {
	if len(r.ToTag()) > 0 {
		return false
	}
	switch r.Method() {
	case sip.INVITE, sip.SUBSCRIBE, sip.REFER, sip.NOTIFY:
		return true
	}
	return false
}

// Record is what proxy.Plan.Record wants when the request may begin a dialog, else nil.
func (r *Request) Record() func(m *sip.Message, up, down sip.Flow, t *proxy.Target) {
	if r.begins() {
		return r.gate.record
	}
	return nil
}
