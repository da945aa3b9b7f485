package frontend

import (
	"bytes"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"fernamt/core/ident"
	"fernamt/core/location"
	"fernamt/core/route"
	"fernamt/wire/sip"
)

const maxContacts = 16 // in one REGISTER

// supported are the extensions that a REGISTER may require.
var supported = [...]string{"path", "outbound", "gruu"}

// registration is the room that handling one REGISTER needs; it is used again.
type registration struct {
	update   location.Update
	contacts [maxContacts]location.Contact
	params   []byte
	aor      []byte
	path     []byte
	extra    []byte
	outbound bool // the answer speaks of RFC 5626
	firstHop bool // the phone's first hop can do RFC 5626; we, when there is no other
}

// dateLine is a Date header, made once a second.
type dateLine struct {
	second int64
	text   []byte
}

// onRegister is RFC 3261 §10.3.
//
//	REGISTER sip:example.test SIP/2.0
//	To: <sip:alice@example.test>
//	Contact: <sip:alice@192.0.2.4>;expires=600
func (f *role) onRegister(r *route.Request) {
	g := f.pool.Get().(*registration)
	if err := f.register(r, g); err != nil {
		r.Refuse(err)
	}
	f.pool.Put(g)
}

func (f *role) register(r *route.Request, g *registration) error {
	if tags := r.Unsupported(sip.HRequire, supported[:]...); tags != nil {
		return sip.Status(420, "", "Unsupported: "+string(tags))
	}
	a, err := f.owner(r, g)
	if err != nil {
		return err
	}
	if a.Home != "" && !f.homeHere(a) {
		return f.elsewhere(r, a)
	}
	cseq, _, err := r.CSeq()
	if err != nil {
		return sip.Status(400, "Bad CSeq")
	}
	g.update = location.Update{AOR: append(g.aor[:0], a.Address...), CallID: r.CallID(), CSeq: cseq, Now: r.Now,
		Max: a.MaxBindings, Refuse: f.RefuseExcess, Agent: cut(r.Get(sip.HUserAgent), 128)}
	g.aor = g.update.AOR
	if bytes.Contains(r.Get(sip.HFrom), []byte("epid=")) {
		if from, err := r.Message.From(); err == nil {
			if v, ok := from.Param("epid"); ok {
				g.update.Epid = cut(v, 64)
			}
		}
	}
	if err := f.takePath(r, g); err != nil {
		return err
	}
	if err := f.takeContacts(r, g); err != nil {
		return err
	}
	return f.store(r, g, a)
}

func cut(b []byte, n int) []byte { return b[:min(len(b), n)] }

// owner is the account that To names.
func (f *role) owner(r *route.Request, g *registration) (*ident.Account, error) {
	to, err := r.Message.To()
	if err != nil || !to.URI.IsSIP() && !to.URI.Is("tel") {
		return nil, sip.Status(400, "Bad To")
	}
	g.aor = to.URI.AppendAOR(g.aor[:0])
	a := f.h.Users.ByAddress(g.aor)
	switch {
	case a == nil:
		return nil, sip.Status(404, "")
	case a.Disabled:
		return nil, sip.Status(403, "Account Disabled")
	case r.From.How == route.Peer && r.From.Account != nil && r.From.Account.ID != a.ID:
		return nil, sip.Status(403, "Not Your Address")
	case r.From.How < route.User:
		return nil, sip.Status(403, "")
	}
	return a, nil
}

// takePath joins the Path values in their order (RFC 3327 §5.3). It is believed from
// servers alone: anybody else could have us write to whom he likes.
func (f *role) takePath(r *route.Request, g *registration) error {
	g.path, g.outbound, g.firstHop = g.path[:0], false, r.Count(sip.HVia) == 1
	if !r.Has(sip.HPath) {
		return nil
	}
	if r.From.How < route.Trusted {
		return sip.Status(403, "Path Not Accepted From Here")
	}
	for v := range r.Values(sip.HPath) {
		if len(g.path) > 0 {
			g.path = append(g.path, ',')
		}
		g.path = append(g.path, v...)
		first, err := sip.ParseAddress(v)
		if err != nil {
			return sip.Status(400, "Bad Path")
		}
		_, g.firstHop = first.URI.Param("ob") // the last value is the first hop's
	}
	g.update.Path = g.path
	return nil
}

// takeContacts reads the Contacts and works out times and ways.
func (f *role) takeContacts(r *route.Request, g *registration) error {
	seconds, given, err := r.Expires()
	if err != nil {
		return sip.Status(400, "Bad Expires")
	}
	if !given {
		seconds = int(f.DefaultExpires / time.Second)
	}
	g.params = g.params[:0]
	list := g.contacts[:0]
	for v := range r.Values(sip.HContact) {
		c, err := sip.ParseAddress(v)
		switch {
		case err != nil:
			return sip.Status(400, "Bad Contact")
		case c.Star():
			g.update.All = true
			continue
		case !c.URI.IsSIP() && !c.URI.Is("tel"):
			return sip.Status(400, "Contact Is No SIP URI")
		case len(list) == maxContacts:
			return sip.Status(403, "Too Many Contacts")
		}
		x, err := f.contact(r, g, &c, seconds)
		if err != nil {
			return err
		}
		list = append(list, x)
	}
	if g.update.All && (len(list) > 0 || !given || seconds != 0) { // RFC 3261 §10.3 step 6
		return sip.Status(400, "Contact * Needs Expires 0")
	}
	g.update.Contacts = list
	return nil
}

// contact reads one Contact.
func (f *role) contact(r *route.Request, g *registration, c *sip.Address, seconds int) (location.Contact, error) {
	x := location.Contact{URI: c.RawURI, Q: 1000, Expires: seconds}
	if len(c.Params) > 0 {
		if err := f.params(g, c, &x); err != nil {
			return x, err
		}
	}
	lo, hi := int(f.MinExpires/time.Second), int(f.MaxExpires/time.Second)
	if x.Expires > 0 && x.Expires < lo { // RFC 3261 §10.3 step 7
		return x, sip.Status(423, "", "Min-Expires: "+strconv.Itoa(lo))
	}
	x.Expires = min(x.Expires, hi)
	if x.Expires > 0 && f.gate.Ours(&c.URI) {
		return x, sip.Status(403, "Contact Is This Server")
	}
	return x, f.way(r, g, c, &x)
}

// params reads expires, q, reg-id and +sip.instance and keeps the rest as it stands.
func (f *role) params(g *registration, c *sip.Address, x *location.Contact) error {
	start := len(g.params)
	for p := c.Params; len(p) > 0; {
		var one []byte
		one, p = nextParam(p)
		name, value, _ := bytes.Cut(one[1:], []byte("="))
		name, value = bytes.TrimSpace(name), bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("expires")):
			n, err := strconv.ParseUint(string(value), 10, 32)
			if err != nil {
				n = 3600 // RFC 3261 §10.2.1.1: malformed values are treated as 3600
			}
			x.Expires = int(n)
			continue
		case bytes.EqualFold(name, []byte("q")):
			q, err := strconv.ParseFloat(string(value), 64)
			if err != nil || q < 0 || q > 1 {
				return sip.Status(400, "Bad Contact")
			}
			x.Q = int(q*1000 + 0.5)
			continue
		case bytes.EqualFold(name, []byte("reg-id")):
			n, err := strconv.ParseUint(string(value), 10, 31)
			if err != nil || n == 0 {
				return sip.Status(400, "Bad Contact")
			}
			x.RegID = uint32(n)
		case bytes.EqualFold(name, []byte("+sip.instance")):
			x.Instance = location.Bare(value)
		case bytes.EqualFold(name, []byte("pub-gruu")), bytes.EqualFold(name, []byte("temp-gruu")), bytes.EqualFold(name, []byte("gruu")):
			continue // ours to give
		}
		g.params = append(g.params, one...)
	}
	x.Params = g.params[start:len(g.params):len(g.params)]
	if x.Instance == nil {
		x.RegID = 0 // RFC 5626 §6
	}
	return nil
}

// nextParam cuts ";name=value" off p; a quoted value may hold semicolons.
func nextParam(p []byte) (one, rest []byte) {
	quoted := false
	for i := 1; i < len(p); i++ {
		switch {
		case quoted && p[i] == '\\':
			i++
		case p[i] == '"':
			quoted = !quoted
		case p[i] == ';' && !quoted:
			return p[:i], p[i:]
		}
	}
	return p, nil
}

// way decides how requests reach the contact: along the Path when there is one; over the
// connection that the phone has opened; over UDP at its contact when that is where it
// lives, else (NAT, RFC 5626) back to where the REGISTER came from.
func (f *role) way(r *route.Request, g *registration, c *sip.Address, x *location.Contact) error {
	info := r.Flow.Link.Info()
	x.Over = info.Transport
	if x.RegID != 0 && !g.firstHop {
		if r.HasToken(sip.HSupported, "outbound") || r.HasToken(sip.HRequire, "outbound") {
			return sip.Status(439, "") // RFC 5626 §6
		}
		x.RegID = 0
	}
	g.outbound = g.outbound || x.RegID != 0
	switch {
	case len(g.update.Path) > 0:
	case info.Transport != sip.UDP:
		if r.From.How != route.Peer || r.Count(sip.HVia) == 1 {
			x.Flow = r.Flow
		}
	case x.RegID != 0:
		x.Flow = r.Flow
	default:
		x.Flow = f.wayOfDatagrams(r, c)
	}
	return nil
}

// wayOfDatagrams is the way to a contact that was registered over UDP; without a Link the
// contact is resolved for each request.
func (f *role) wayOfDatagrams(r *route.Request, c *sip.Address) sip.Flow {
	a, numeric := c.URI.Addr()
	if numeric && len(c.URI.Params) > 0 {
		_, elsewhere := c.URI.Param("maddr")
		numeric = !elsewhere
	}
	a = a.Unmap()
	if r.From.How < route.Trusted && (!numeric || a != r.Flow.Remote.Addr() && !f.mayName(a)) {
		return r.Flow // where it leads is the sender's word alone
	}
	if t, ok := c.URI.Param("transport"); !numeric || ok && sip.TransportOf(t) != sip.UDP || c.URI.Is("sips") {
		return sip.Flow{}
	}
	port := c.URI.Port
	if port == 0 {
		port = 5060
	}
	return sip.Flow{Link: r.Flow.Link, Remote: netip.AddrPortFrom(a, port)}
}

// mayName says whether anybody's Contact may name that address.
func (f *role) mayName(a netip.Addr) bool {
	for _, n := range f.ContactNetworks {
		if n.Prefix.Contains(a) {
			return true
		}
	}
	return false
}

// store carries the REGISTER out and answers it.
func (f *role) store(r *route.Request, g *registration, a *ident.Account) error {
	form := location.Form(0)
	if r.Has(sip.HSupported) {
		if r.HasToken(sip.HSupported, "gruu") {
			form |= location.GRUU
		}
		if r.HasToken(sip.HSupported, "gruu-10") {
			form |= location.OC
		}
	}
	extra, out, err := f.gate.Locations().Register(&g.update, g.extra[:0], form)
	g.extra = extra
	switch {
	case errors.Is(err, location.ErrOrder):
		return sip.Status(500, "CSeq Out Of Order")
	case errors.Is(err, location.ErrTooMany):
		return sip.Status(403, "Too Many Registrations")
	case errors.Is(err, location.ErrTooLong):
		return sip.Status(413, "")
	case err != nil:
		return err
	}
	if link := r.Flow.Link; link.Info().Transport != sip.UDP && out.Added+out.Refreshed > 0 {
		if _, alive := f.gate.Transport().ByID(link.Info().ID); !alive && link.Info().Transport != sip.Local {
			f.gate.Locations().Closed(link.Info().ID) // it closed while this was under way
		}
	}
	g.extra = f.about(r, g, form)
	r.Reply(200, g.extra)
	if out.Left > 0 && f.box.Waiting(a.ID) > 0 {
		f.deliver.to(a)
	}
	return nil
}

// about appends the headers of a 200 that speak of the registration as a whole.
func (f *role) about(r *route.Request, g *registration, form location.Form) []byte {
	b := append(g.extra, f.dateHeader(r.Now)...)
	if len(g.update.Path) > 0 {
		b = append(append(append(b, "Path: "...), g.update.Path...), '\r', '\n') // RFC 3327 §5.3
	}
	if g.outbound {
		b = append(b, "Require: outbound\r\nSupported: outbound, path, gruu\r\nFlow-Timer: 120\r\n"...) // RFC 5626 §6
		b = append(append(append(b, "Service-Route: "...), r.ServiceRoute()...), '\r', '\n')            // RFC 3608 §6
	}
	if form&location.OC != 0 && len(g.update.Contacts) > 0 {
		b = append(strconv.AppendInt(append(b, "Expires: "...), int64(g.update.Contacts[0].Expires), 10), '\r', '\n')
	}
	return b
}

// dateHeader is RFC 3261 §20.17, which gives phones the time.
func (f *role) dateHeader(now int64) []byte {
	second := now / int64(time.Second)
	if d := f.date.Load(); d != nil && d.second == second {
		return d.text
	}
	d := &dateLine{second, time.Now().UTC().AppendFormat([]byte("Date: "), "Mon, 02 Jan 2006 15:04:05 GMT\r\n")}
	f.date.Store(d)
	return d.text
}

// homeHere says whether this front end serves the account.
func (f *role) homeHere(a *ident.Account) bool {
	return a.Home == "" || a.Home == f.h.Name || a.Home == f.h.Settings.PoolOf(f.h.Self)
}

// elsewhere passes a request on to the front end that serves the account.
func (f *role) elsewhere(r *route.Request, a *ident.Account) error {
	return r.ToPool("frontend", a.Home)
}
