package route

import (
	"bytes"
	"context"
	"net/netip"
	"strings"

	"fernamt/core/location"
	"fernamt/wire/proxy"
	"fernamt/wire/sip"
)

// maxOwn bounds how many Routes of ours are taken off: outbound proxy, Service-Route and
// a double Record-Route.
const maxOwn = 4

// takeRoutes takes our own Routes off the top (RFC 3261 §16.4) until one has a token,
// and with that the other half of a double Record-Route (RFC 5658 §3). One of ours
// with another token stays: the request comes back for it.
func (g *Gate) takeRoutes(sc *scene, r *Request) {
	if !r.Has(sip.HRoute) {
		return
	}
	g.unstrict(r)
	var first []byte
	for range maxOwn {
		v := r.First(sip.HRoute)
		if v == nil {
			return
		}
		a, err := sip.ParseAddress(v)
		if err != nil {
			return
		}
		ft, has := a.URI.Param("ft")
		if r.token {
			if has && bytes.Equal(ft, first) {
				r.PopFirst(sip.HRoute)
			}
			return
		}
		if has {
			r.up, r.down, r.token = g.tokens.read(ft)
		}
		if !r.token && !g.ours(sc, &a.URI) {
			return
		}
		if r.token {
			first = append(r.aor[:0], ft...)
			r.aor = first
			r.token = r.up.kind != sideNone // else a Service-Route: it says no more than that it is ours
		}
		r.PopFirst(sip.HRoute)
	}
}

// unstrict repairs what a strict router did: our Record-Route stands in the
// Request-URI, the target at the end of the Routes (RFC 3261 §16.4).
func (g *Gate) unstrict(r *Request) {
	if !bytes.Contains(r.RequestURI(), []byte(";ft=")) {
		return
	}
	u, err := sip.ParseURI(r.RequestURI())
	if err != nil {
		return
	}
	ft, has := u.Param("ft")
	if _, _, ok := g.tokens.read(ft); !has || !ok {
		return
	}
	var all [][]byte
	for v := range r.Values(sip.HRoute) {
		all = append(all, bytes.Clone(v))
	}
	last, err := sip.ParseAddress(all[len(all)-1])
	if err != nil {
		return
	}
	own := append(append([]byte{'<'}, r.RequestURI()...), '>')
	r.Remove(sip.HRoute)
	r.Add(sip.HRoute, own)
	for _, v := range all[:len(all)-1] {
		r.Add(sip.HRoute, v)
	}
	r.SetRequestURI(last.RawURI)
}

// ours says whether a URI's host is this process: a domain, our name, or an address
// and port of ours.
func (g *Gate) ours(sc *scene, u *sip.URI) bool {
	if a, ok := u.Addr(); ok {
		port := u.Port
		if port == 0 {
			port = defaultPort(u)
		}
		_, own := sc.own[netip.AddrPortFrom(a.Unmap(), port)]
		return own
	}
	return g.isDomain(u.Host) || g.c.Name != "" && len(u.Host) == len(g.c.Name) && bytes.EqualFold(u.Host, []byte(g.c.Name))
}

// Ours says whether a URI names a socket of this process: an address and port of ours, or
// our host's name without a port or with one of ours. An address in one of our domains
// names a person (and RFC 4475 §3.3.14 has one registered); who then goes round in a
// circle is found out by the loop check.
func (g *Gate) Ours(u *sip.URI) bool {
	sc := g.scene.Load()
	if _, numeric := u.Addr(); numeric {
		return g.ours(sc, u)
	}
	if g.isDomain(u.Host) || !g.ours(sc, u) {
		return false
	}
	if u.Port == 0 {
		return true
	}
	for a := range sc.own {
		if a.Port() == u.Port {
			return true
		}
	}
	return false
}

func defaultPort(u *sip.URI) uint16 {
	if u.Is("sips") {
		return 5061
	}
	if t, ok := u.Param("transport"); ok && sip.TransportOf(t) == sip.TLS {
		return 5061
	}
	return 5060
}

// resolve is the fourth step: who is it for?
func (g *Gate) resolve(sc *scene, r *Request) error {
	if r.token {
		return g.within(r)
	}
	u, err := sip.ParseURI(r.RequestURI())
	if err != nil {
		return &sip.Error{Status: 400, Reason: "Bad Request-URI"}
	}
	if !u.IsSIP() && !u.Is("tel") {
		return &sip.Error{Status: 416}
	}
	if r.Has(sip.HRoute) {
		return g.byRoute(r)
	}
	if r.Method() == sip.REGISTER {
		if !u.IsSIP() || !g.ours(sc, &u) {
			return g.abroad(r, &u)
		}
		r.To.Kind = Self
		return nil
	}
	if u.Is("tel") {
		return g.number(r, u.User)
	}
	if !g.ours(sc, &u) {
		return g.abroad(r, &u)
	}
	if u.User == nil {
		r.To.Kind = Self
		return nil
	}
	return g.local(sc, r, &u)
}

// local finds who a URI in one of our domains means.
func (g *Gate) local(sc *scene, r *Request, u *sip.URI) error {
	r.aor = u.AppendAOR(r.aor[:0])
	if len(u.Params) > 0 || len(sc.apps) > 0 {
		if done, err := g.special(sc, r, u); done {
			return err
		}
	}
	if location.IsTemp(u.User) {
		b, ok := g.locations.ByTemp(u.User, r.Now)
		return g.endpoint(r, b, ok)
	}
	a := g.people(r.aor)
	if a == nil {
		if at := bytes.LastIndexByte(r.aor, '@'); at > 0 && r.aor[0] == '+' && g.c.Users != nil {
			a = g.c.Users.ByNumber(r.aor[:at])
		}
	}
	if a == nil && !g.isDomain(u.Host) && len(g.c.Domains) > 0 { // sip:alice@192.0.2.1, from a phone that knows no domain
		at := bytes.LastIndexByte(r.aor, '@')
		r.aor = append(append(r.aor[:at], '@'), g.c.Domains[0]...)
		a = g.people(r.aor)
	}
	if a == nil || a.Disabled {
		return &sip.Error{Status: 404}
	}
	r.To.Kind, r.To.Account = Account, a
	r.aor = append(r.aor[:0], a.Address...)
	r.To.AOR = r.aor
	return nil
}

// special handles what a plain address is not: roles and GRUUs.
func (g *Gate) special(sc *scene, r *Request, u *sip.URI) (done bool, err error) {
	if role := sc.apps[string(r.aor)]; role != "" {
		r.To.Kind, r.To.Role = App, role
		return true, nil
	}
	if o, ok := u.Param("opaque"); ok {
		if app, ok := bytes.CutPrefix(o, []byte("app:")); ok {
			if role := sc.app(app); role != "" {
				r.To.Kind, r.To.Role = App, role
				return true, nil
			}
			return true, &sip.Error{Status: 404}
		}
		if epid, ok := bytes.CutPrefix(o, []byte("user:epid:")); ok {
			if a := g.people(r.aor); a != nil {
				b, found := g.locations.ByEndpoint([]byte(a.Address), nil, epid, r.Now)
				r.To.Account = a
				return true, g.endpoint(r, b, found)
			}
			return true, &sip.Error{Status: 404}
		}
	}
	if gr, ok := u.Param("gr"); ok && len(gr) > 0 {
		if a := g.people(r.aor); a != nil {
			b, found := g.locations.ByEndpoint([]byte(a.Address), gr, nil, r.Now)
			r.To.Account = a
			return true, g.endpoint(r, b, found)
		}
		return true, &sip.Error{Status: 404}
	}
	return false, nil
}

// app finds the role that claims what stands behind "opaque=app:".
func (s *scene) app(name []byte) string {
	for n := len(name); n > 0; n = bytes.LastIndexByte(name[:n], ':') {
		if role := s.apps[strings.ToLower(string(name[:n]))]; role != "" {
			return role
		}
		if role := s.apps[strings.ToLower(string(name[:n]))+":"]; role != "" {
			return role
		}
	}
	return ""
}

// endpoint is one phone of somebody: of r.To.Account, or of whom the registration names.
func (g *Gate) endpoint(r *Request, b location.Binding, ok bool) error {
	a := r.To.Account
	if a == nil && ok {
		a = g.people(b.AOR)
		r.To.Account = a
	}
	if a == nil && ok || a != nil && a.Disabled {
		return &sip.Error{Status: 404}
	}
	if !ok && g.scene.Load().handlers[registrar] == nil { // a director: the front end knows
		r.To.Kind = Endpoint
		return nil
	}
	if !ok {
		return &sip.Error{Status: 480} // RFC 5627 §5.1
	}
	r.To.Kind, r.To.Binding, r.To.AOR = Endpoint, b, b.AOR
	return nil
}

// registrar is the role that keeps registrations.
const registrar = "frontend"

func (g *Gate) number(r *Request, number []byte) error {
	r.aor = r.aor[:0]
	for _, c := range number {
		if c != '-' && c != '.' && c != '(' && c != ')' {
			r.aor = append(r.aor, c)
		}
	}
	if g.c.Users != nil {
		if a := g.c.Users.ByNumber(r.aor); a != nil && !a.Disabled {
			r.To.Kind, r.To.Account = Account, a
			r.aor = append(r.aor[:0], a.Address...)
			r.To.AOR = r.aor
			return nil
		}
	}
	return &sip.Error{Status: 404}
}

// byRoute sends on to a Route that is not ours: only for those who may use us so.
func (g *Gate) byRoute(r *Request) error {
	if r.From.How < User {
		return &sip.Error{Status: 403}
	}
	r.To = Target{Kind: Onward, Next: proxy.Target{}}
	return nil
}

// abroad is a foreign domain: found by RFC 3263, for our own people alone. We are no
// open relay.
func (g *Gate) abroad(r *Request, u *sip.URI) error {
	if r.From.How < User {
		return &sip.Error{Status: 403, Reason: "Relaying Denied"}
	}
	r.To = Target{Kind: Onward}
	return nil
}

// crossing says to which side a request goes that came from the other one. Over UDP
// the address alone is enough where it tells the sides apart: some phones send from
// another port than they listen on. Of a Path nobody crosses from the client's side.
func (r *Request) crossing() (to side, sure bool) {
	if r.down.kind == sideNone {
		return r.up, false
	}
	switch {
	case r.up.is(r.Flow):
		return r.down, true
	case r.down.is(r.Flow):
		return r.up, true
	}
	here := r.Flow.Remote.Addr()
	up, down := r.up.kind == sideUDP && r.up.remote.Addr() == here, r.down.kind == sideUDP && r.down.remote.Addr() == here
	switch {
	case r.Flow.Link.Info().Transport != sip.UDP || up == down:
		return side{}, false
	case up:
		return r.down, true
	}
	return r.up, true
}

// within finds the other side of a dialog by the token (RFC 5626 §5.3).
func (g *Gate) within(r *Request) error {
	if r.down.kind == sideNone && (r.From.How < Trusted || r.up.is(r.Flow)) {
		// A Path: only servers come along it towards the client (RFC 3327 §5.1). The client
		// itself uses it as Service-Route, maybe over a new connection.
		r.token = false
		return g.resolve(g.scene.Load(), r)
	}
	if r.From.How == Nobody {
		return &sip.Error{Status: 403} // a token that somebody else carries about
	}
	r.To.Kind = Within
	to := r.to
	if !r.known && r.down.kind != sideNone {
		to = g.otherSide(r)
	}
	r.To.Next = proxy.Target{Gone: 430}
	if f, ok := g.flowOf(to); ok {
		r.To.Next.Flow = f
		return nil
	}
	if to.kind == sideLink && !r.Has(sip.HRoute) {
		// The connection is gone. What the URI names may still be reached.
		if u, err := sip.ParseURI(r.RequestURI()); err != nil || bytes.HasSuffix(u.Host, []byte(".invalid")) {
			return &sip.Error{Status: 430}
		}
	}
	return nil
}

// otherSide picks the side for a request that came over neither flow, say because
// the phone has a new connection: the one that is not where the sender is.
func (g *Gate) otherSide(r *Request) side {
	up, upOK := g.flowOf(r.up)
	down, downOK := g.flowOf(r.down)
	here := r.Flow.Remote.Addr()
	switch {
	case upOK && !downOK:
		return r.up
	case downOK && !upOK:
		return r.down
	case !upOK && !downOK:
		return side{}
	case up.Remote.Addr() == here && down.Remote.Addr() != here:
		return r.down
	case down.Remote.Addr() == here && up.Remote.Addr() != here:
		return r.up
	}
	return side{} // by the Request-URI
}

// flowOf turns a side into a flow that lives.
func (g *Gate) flowOf(s side) (sip.Flow, bool) {
	switch s.kind {
	case sideUDP, sideLink:
		f, ok := g.layer.ByID(s.link)
		if ok && s.kind == sideUDP {
			f.Remote = s.remote
		}
		return f, ok && (s.kind == sideUDP) == (f.Link.Info().Transport == sip.UDP)
	case sideLocal:
		sc := g.scene.Load()
		if l := sc.locals[sc.roleOf[s.link]]; l != nil {
			return sip.Flow{Link: l}, true
		}
	}
	return sip.Flow{}, false
}

// record adds our Record-Route, two when the sides differ in transport or address
// (RFC 5658 §3).
func (g *Gate) record(m *sip.Message, up, down sip.Flow, _ *proxy.Target) {
	var tok [112]byte
	token := g.tokens.append(tok[:0], sideOf(up), sideOf(down))
	ui, di := up.Link.Info(), down.Link.Info()
	secure := bytes.HasPrefix(m.RequestURI(), []byte("sips:"))
	var room [320]byte
	if ui.Transport != di.Transport || ui.Local != di.Local {
		m.Prepend(sip.HRecordRoute, g.appendOwn(room[:0], ui, secure, token))
	}
	m.Prepend(sip.HRecordRoute, g.appendOwn(room[:0], di, secure, token))
}

// appendOwn writes our address on a link, with a token.
func (g *Gate) appendOwn(b []byte, info *sip.LinkInfo, secure bool, token []byte) []byte {
	if secure {
		b = append(b, "<sips:"...)
	} else {
		b = append(b, "<sip:"...)
	}
	if info.Transport == sip.Local || !info.Local.IsValid() {
		b = append(b, g.localName()...)
	} else {
		b = g.address(info).AppendTo(b)
	}
	switch info.Transport {
	case sip.TCP:
		b = append(b, ";transport=tcp"...)
	case sip.TLS:
		b = append(b, ";transport=tls"...)
	case sip.WS, sip.WSS:
		b = append(b, ";transport=ws"...)
	}
	b = append(b, ";lr;ft="...)
	return append(append(b, token...), '>')
}

// appendBack writes an address of ours. For the registrar (inside) it has a token of
// the flow that the request came by (RFC 5626 §5.1), and our door for mutual TLS if
// there is one; else the token has no sides and says only that the address is ours.
func (r *Request) appendBack(dst []byte, inside bool) []byte {
	g := r.gate
	var back side
	if inside {
		back = sideOf(r.Flow)
	}
	var tok [112]byte
	token := g.tokens.append(tok[:0], back, side{})
	info := r.Flow.Link.Info()
	if a := g.scene.Load().main[sip.TLS]; inside && a.IsValid() {
		info = &sip.LinkInfo{Transport: sip.TLS, Local: a}
	}
	b := g.appendOwn(dst, info, false, token)
	return append(b[:len(b)-1], ";ob>"...)
}

// prepare fills in a target's way where that needs no waiting: the flow or numeric
// address or cached hops of its first Route, of the request's, or of its URI.
func (g *Gate) prepare(t *proxy.Target, uri []byte) bool {
	if t.Flow.Link != nil || len(t.Hops) > 0 {
		return true
	}
	u, ok := g.wayURI(t, uri)
	if !ok {
		return false
	}
	if h, ok := numericHop(&u); ok {
		t.Hops = []sip.Hop{g.named(h)}
		return true
	}
	if g.c.Finder == nil {
		return false
	}
	if hops, ok := g.c.Finder.Cached(u); ok && len(hops) > 0 {
		t.Hops = hops
		return true
	}
	return false
}

// wayURI is the URI that says where a target's request goes next.
func (g *Gate) wayURI(t *proxy.Target, uri []byte) (sip.URI, bool) {
	way := uri
	if t.URI != nil {
		way = t.URI
	}
	if len(t.Routes) > 0 {
		a, err := sip.ParseAddress(t.Routes[0])
		if err != nil {
			return sip.URI{}, false
		}
		return a.URI, a.URI.IsSIP()
	}
	u, err := sip.ParseURI(way)
	return u, err == nil && u.IsSIP()
}

// locate asks the name servers for what prepare could not fill in. A target without
// any way stays so; the proxy answers 503 for it.
func (g *Gate) locate(ctx context.Context, ts []proxy.Target, uri []byte) {
	for i := range ts {
		t := &ts[i]
		if t.Flow.Link != nil || len(t.Hops) > 0 || g.c.Finder == nil {
			continue
		}
		u, ok := g.wayURI(t, uri)
		if !ok {
			continue
		}
		hops, err := g.c.Finder.Locate(ctx, u)
		if err != nil {
			g.log.Info("no way found", "to", string(u.Host), "err", err)
			continue
		}
		t.Hops = hops
	}
}

// numericHop is RFC 3263 §4.1 and §4.2 for a numeric host: no name server is asked.
func numericHop(u *sip.URI) (sip.Hop, bool) {
	host := u.Host
	if v, ok := u.Param("maddr"); ok {
		host = v
	}
	m := sip.URI{Host: host}
	a, ok := m.Addr()
	if !ok {
		return sip.Hop{}, false
	}
	h := sip.Hop{Transport: sip.UDP, Host: strings.Trim(string(host), "[]")}
	if v, ok := u.Param("transport"); ok {
		h.Transport = sip.TransportOf(v)
		if u.Is("sips") && h.Transport == sip.TCP {
			h.Transport = sip.TLS
		}
	} else if u.Is("sips") {
		h.Transport = sip.TLS
	}
	port := u.Port
	if port == 0 {
		port = 5060
		if h.Transport == sip.TLS {
			port = 5061
		}
	}
	h.Addr = netip.AddrPortFrom(a.Unmap(), port)
	return h, h.Transport == sip.UDP || h.Transport == sip.TCP || h.Transport == sip.TLS
}

// named gives a hop to a host of the topology that host's name: its certificate must
// say so (RFC 5922).
func (g *Gate) named(h sip.Hop) sip.Hop {
	if h.Transport != sip.TLS {
		return h
	}
	if _, own := g.scene.Load().own[h.Addr]; own && g.c.Name != "" {
		h.Host = g.c.Name // another role's door in this process, maybe at an address of its own
		return h
	}
	for i := range g.c.Hosts {
		if g.c.Hosts[i].Addr == h.Addr.Addr() {
			h.Host = g.c.Hosts[i].Name
		}
	}
	return h
}

// To gives the way to a role: inside the process when it runs here, else by mutual TLS
// to a host that plays it, in pool if that is not empty.
func (g *Gate) To(role, pool string) (proxy.Target, error) {
	if l := g.scene.Load().locals[role]; l != nil && g.serves(role, pool) {
		return proxy.Target{Flow: sip.Flow{Link: l}}, nil
	}
	var t proxy.Target
	for i := range g.c.Hosts {
		h := &g.c.Hosts[i]
		port, ok := h.Roles[role]
		if !ok || pool != "" && h.Pool != pool && h.Name != pool {
			continue
		}
		if h.Addr.IsValid() && !h.Addr.IsUnspecified() {
			t.Hops = append(t.Hops, sip.Hop{Transport: sip.TLS, Addr: netip.AddrPortFrom(h.Addr, port), Host: h.Name})
		}
	}
	if len(t.Hops) == 0 {
		return t, sip.Status(503, "No Server For This")
	}
	return t, nil
}

// serves says whether this host plays the role for that pool.
func (g *Gate) serves(role, pool string) bool {
	h := g.hostNamed(g.c.Name)
	return pool == "" || h == nil || h.Pool == pool || h.Name == pool
}

// Way turns a binding into a target of the proxy.
func (g *Gate) Way(b *location.Binding) proxy.Target {
	t := proxy.Target{URI: b.Contact, Flow: b.Flow, Gone: 480}
	if len(b.Path) > 0 {
		t.Flow = sip.Flow{}
		for v := range eachValue(b.Path) {
			t.Routes = append(t.Routes, v)
		}
		return t
	}
	if t.Flow.Link == nil {
		t.Flow = sip.Flow{}
		if b.Over == sip.UDP && b.Flow.Remote.IsValid() { // since a restart
			if f, ok := g.find(registrar, sip.Hop{Transport: sip.UDP, Addr: b.Flow.Remote}); ok {
				t.Flow = f
			}
		}
	}
	return t
}

// eachValue cuts a list of addresses at its commas.
func eachValue(list []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		start, angle := 0, false
		for i, c := range list {
			switch {
			case c == '<':
				angle = true
			case c == '>':
				angle = false
			case c == ',' && !angle:
				if !yield(bytes.TrimSpace(list[start:i])) {
					return
				}
				start = i + 1
			}
		}
		yield(bytes.TrimSpace(list[start:]))
	}
}
