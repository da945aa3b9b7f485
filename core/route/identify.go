package route

import (
	"bytes"
	"hash/maphash"
	"sync"
	"time"

	"fernamt/core/ident"
	"fernamt/wire/gss"
	"fernamt/wire/sip"
)

const (
	nonceLife  = 10 * time.Minute
	againSize  = 1 << 14
	keepSigned = time.Hour // an idle connection on which somebody signed in
)

// signedIn remembers who did Digest on a connection: pidgin-sipe sends credentials
// once and nothing later. It counts for requests in that person's name alone.
type signedIn struct {
	mu sync.Mutex
	m  map[uint64]int64 // link → account
}

func (s *signedIn) note(link uint64, account int64) {
	s.mu.Lock()
	if s.m == nil {
		s.m = map[uint64]int64{}
	}
	s.m[link] = account
	s.mu.Unlock()
}

func (s *signedIn) forget(link uint64) {
	s.mu.Lock()
	delete(s.m, link)
	s.mu.Unlock()
}

func (s *signedIn) who(link uint64) (int64, bool) {
	s.mu.Lock()
	id, ok := s.m[link]
	s.mu.Unlock()
	return id, ok
}

// isPeer says whether the other end proved to be a server of the topology (RFC 5922).
func (g *Gate) isPeer(info *sip.LinkInfo) bool {
	for _, name := range info.Peer {
		if g.hostNamed(name) != nil {
			return true
		}
	}
	return false
}

// identify is the second step: who is this from?
func (g *Gate) identify(sc *scene, r *Request, info *sip.LinkInfo) error {
	g.takeRoutes(sc, r)
	if r.token {
		r.to, r.known = r.crossing()
	}
	if err := r.readFrom(); err != nil {
		return err
	}
	switch {
	case info.Transport == sip.Local || len(info.Peer) > 0 && g.isPeer(info):
		r.From.How = Peer
		if len(info.Peer) > 0 {
			r.From.Peer = info.Peer[0]
		}
		r.From.Account = g.asserted(r)
		return nil
	case !r.outside:
		r.From.How = Trusted
		if r.Method() != sip.REGISTER { // who registers is who is registered: the registrar looks
			r.From.Account = g.people(r.from)
		}
		return nil
	case r.known && len(r.ToTag()) > 0, r.token && r.down.kind != sideNone && r.Method() == sip.ACK:
		r.From.How = Dialog // an ACK cannot be challenged, and only who was in the dialog has the token
		return nil
	}
	if a := g.onConnection(r, info); a != nil {
		r.From.How, r.From.Account = User, a
		return nil
	}
	return g.digest(sc, r)
}

func (g *Gate) people(aor []byte) *ident.Account {
	if g.c.Users == nil {
		return nil
	}
	return g.c.Users.ByAddress(aor)
}

// readFrom puts From's address into its canonical form.
func (r *Request) readFrom() error {
	from, err := r.Message.From()
	if err != nil {
		return &sip.Error{Status: 400, Reason: "Bad From"}
	}
	r.from = from.URI.AppendAOR(r.from[:0])
	return nil
}

// asserted is the account that P-Asserted-Identity names, else From (RFC 3325 §9.1).
func (g *Gate) asserted(r *Request) *ident.Account {
	if v := r.First(sip.HPAssertedIdentity); v != nil {
		if a, err := sip.ParseAddress(v); err == nil {
			r.aor = a.URI.AppendAOR(r.aor[:0])
			return g.people(r.aor)
		}
	}
	return g.people(r.from)
}

// onConnection is who signed in on the connection before, if the request is in that
// person's name.
func (g *Gate) onConnection(r *Request, info *sip.LinkInfo) *ident.Account {
	if info.Transport == sip.UDP || r.Has(sip.HAuthorization) || r.Has(sip.HProxyAuthorization) {
		return nil
	}
	id, ok := g.signed.who(info.ID)
	if !ok {
		return nil
	}
	if a := g.people(r.from); a != nil && a.ID == id && !a.Disabled {
		return a
	}
	return nil
}

// digest checks the credentials of a request that nothing else vouches for.
func (g *Gate) digest(sc *scene, r *Request) error {
	addr := g.guard.addr(r.Flow.Remote.Addr())
	c, raw := g.credentials(r)
	if raw == nil {
		if g.guard.banned(addr, r.Now) {
			g.guard.count.banned.Add(1)
			return errDrop
		}
		if scanner(r.Message) {
			g.guard.count.scanners.Add(1)
			g.guard.ban(addr, r.Now)
			g.log.Info("scanner banned", "from", r.Flow.Remote.Addr())
			return errDrop
		}
		if g.open(sc, r) {
			return nil
		}
		return g.challenge(r, false)
	}
	user := g.guard.user(c.Username, c.Realm)
	if !g.guard.isKnown(user, addr) {
		if g.guard.banned(addr, r.Now) {
			g.guard.count.banned.Add(1)
			return errDrop
		}
		if g.guard.banned(user, r.Now) { // looks like one more wrong password
			g.guard.count.banned.Add(1)
			return g.challenge(r, false)
		}
	}
	a, right, id := g.verify(&c, r)
	if !right {
		if g.guard.failed(user, addr, r.Now) {
			g.log.Warn("sign-ins failed too often, banned for a while", "user", string(c.Username), "from", r.Flow.Remote.Addr())
		}
		return g.challenge(r, false)
	}
	switch g.nonces.Check(c.Nonce, c.NC) {
	case gss.Stale:
		return g.challenge(r, true)
	case gss.Replayed:
		if !g.sameAgain(&c, r, false) {
			return g.challenge(r, true)
		}
	case gss.Fresh:
		g.sameAgain(&c, r, true)
	}
	if a.Disabled {
		return &sip.Error{Status: 403, Reason: "Account Disabled"}
	}
	g.guard.succeeded(user, addr)
	g.c.Users.Used(id)
	if r.Count(sip.HProxyAuthorization) == 1 && r.Method() != sip.REGISTER {
		r.Remove(sip.HProxyAuthorization) // what answers our challenge is nobody else's business
	}
	if info := r.Flow.Link.Info(); info.Transport != sip.UDP {
		g.signed.note(info.ID, a.ID)
		g.layer.Keep(info.ID, keepSigned)
		if _, lives := g.layer.ByID(info.ID); !lives { // it closed meanwhile, and nobody will say so again
			g.signed.forget(info.ID)
		}
	}
	r.From.How, r.From.Account = User, a
	return nil
}

// open says what needs no sign-in: an ACK, which cannot be challenged, and OPTIONS to
// the server, with which phones and monitors see whether it lives.
func (g *Gate) open(sc *scene, r *Request) bool {
	switch r.Method() {
	case sip.ACK:
		return true
	case sip.OPTIONS:
		u, err := sip.ParseURI(r.RequestURI())
		return err == nil && u.User == nil && g.ours(sc, &u) && !r.Has(sip.HRoute)
	}
	return false
}

// credentials finds Digest credentials for a realm of ours. Those for other realms,
// other schemes and what cannot be read are as if they were not there.
func (g *Gate) credentials(r *Request) (c gss.Credentials, raw []byte) {
	for _, h := range [...]sip.Header{sip.HAuthorization, sip.HProxyAuthorization} {
		v := r.Get(h)
		if v == nil {
			continue
		}
		if c, err := gss.ParseCredentials(v); err == nil && g.isDomain(c.Realm) {
			return c, v
		}
		if r.Count(h) < 2 {
			continue
		}
		for name, v := range r.Fields() {
			if !bytes.EqualFold(name, []byte(h.String())) {
				continue
			}
			if c, err := gss.ParseCredentials(v); err == nil && g.isDomain(c.Realm) {
				return c, v
			}
		}
	}
	return c, nil
}

// verify compares with every password of the account. For an unknown user as much is
// computed, so that the time tells nothing.
func (g *Gate) verify(c *gss.Credentials, r *Request) (a *ident.Account, right bool, id int64) {
	a = g.c.Users.ByUsername(c.Username, c.Realm)
	md5 := c.Algorithm == gss.MD5 || c.Algorithm == gss.MD5Sess
	tried := false
	if a != nil {
		for i := range a.Credentials {
			x := &a.Credentials[i]
			if x.User != string(c.Username) {
				continue
			}
			ha1 := x.SHA256[:]
			if md5 {
				ha1 = x.MD5[:]
			}
			tried = true
			if c.Verify(ha1, r.MethodName(), r.Body()) && !right {
				right, id = true, x.ID
			}
		}
	}
	if !tried {
		var none [32]byte
		ha1 := none[:]
		if md5 {
			ha1 = none[:16]
		}
		c.Verify(ha1, r.MethodName(), r.Body())
		right = false
	}
	return a, right, id
}

// sameAgain tells a retransmission, whose count was used by itself, from a replay:
// the first one has the very same octets. note remembers them.
func (g *Gate) sameAgain(c *gss.Credentials, r *Request, note bool) bool {
	slot := &g.again[(maphash.Bytes(g.seed, c.Nonce)+uint64(c.NC))%againSize]
	sum := maphash.Bytes(g.seed, r.Bytes()) | 1
	if note {
		slot.Store(sum)
		return true
	}
	return slot.Load() == sum
}

// challenge answers 401 at a registrar and 407 elsewhere, the same for known and
// unknown users.
func (g *Gate) challenge(r *Request, stale bool) error {
	code, name := 407, "Proxy-Authenticate: "
	if r.Method() == sip.REGISTER {
		code, name = 401, "WWW-Authenticate: "
	}
	if r.Method() == sip.ACK {
		return errDrop
	}
	realm := g.realm(r)
	var nonce [64]byte
	ch := gss.Challenge{Realm: realm, Nonce: g.nonces.Make(nonce[:0]), Stale: stale, QOP: "auth"}
	r.extra = r.extra[:0]
	old := md5Alone(r.Get(sip.HUserAgent))
	for _, alg := range g.c.Algorithms {
		if old && alg != gss.MD5 && len(g.c.Algorithms) > 1 {
			continue
		}
		ch.Algorithm = alg
		r.extra = append(r.extra, name...)
		r.extra = append(ch.AppendTo(r.extra), '\r', '\n')
	}
	g.stats.challenges.Add(1)
	g.reply(r.Message, code, "", r.extra)
	return errDrop // answered
}

// md5Alone tells of clients that fail when an algorithm that they do not know is
// offered beside MD5, where RFC 8760 §2.4 has them pass over it: baresip 1.0 and
// before ("function not implemented"), sipsak ("unsupported authentication algorithm"),
// and sipp 3.6, which gives no name. Nameless devices are as old; so they are asked
// for MD5 alone.
func md5Alone(agent []byte) bool {
	return len(agent) == 0 || bytes.HasPrefix(agent, []byte("baresip v0.")) ||
		bytes.HasPrefix(agent, []byte("baresip v1.0")) || bytes.HasPrefix(agent, []byte("sipsak"))
}

// realm is the domain of the person who is asked, else our first one.
func (g *Gate) realm(r *Request) string {
	if i := bytes.LastIndexByte(r.from, '@'); i >= 0 {
		for _, d := range g.c.Domains {
			if string(r.from[i+1:]) == d {
				return d
			}
		}
	}
	if len(g.c.Domains) == 0 {
		return g.localName()
	}
	return g.c.Domains[0]
}

func (g *Gate) isDomain(name []byte) bool {
	for _, d := range g.c.Domains {
		if len(d) == len(name) && bytes.EqualFold(name, []byte(d)) {
			return true
		}
	}
	return false
}

// admit is the third step: may this one ask this, in that name?
func (g *Gate) admit(r *Request) error {
	if r.From.How == User {
		if err := g.inOwnName(r); err != nil {
			return err
		}
	}
	if r.outside && r.From.How != Dialog {
		// What an outsider says about himself is worth nothing (RFC 3325 §5).
		r.Remove(sip.HPAssertedIdentity)
		r.RemoveName("Remote-Party-ID")
	}
	if r.Has(sip.HPPreferredIdentity) && r.From.How != Peer {
		r.Remove(sip.HPPreferredIdentity) // it was for us (RFC 3325 §9.2)
	}
	if r.From.How == Dialog {
		if r.Has(sip.HPAssertedIdentity) {
			r.Remove(sip.HPAssertedIdentity)
		}
		return nil
	}
	if r.From.How == Peer || r.Method() == sip.REGISTER || len(r.ToTag()) > 0 {
		return nil
	}
	g.assert(r)
	return nil
}

// assert sets P-Asserted-Identity, unless the person asked to stay hidden (RFC 3323).
func (g *Gate) assert(r *Request) {
	if r.From.How < User || hides(r.Message) {
		return
	}
	if r.From.How == Trusted && r.Has(sip.HPAssertedIdentity) {
		return
	}
	b := append(r.extra[:0], "<sip:"...)
	if r.From.Account != nil {
		b = append(b, r.From.Account.Address...)
	} else {
		b = append(b, r.from...)
	}
	b = append(b, '>')
	r.Set(sip.HPAssertedIdentity, b)
	r.extra = b
}

// believes says whether who sends over f may say who they are.
func (g *Gate) believes(f sip.Flow) bool {
	info := f.Link.Info()
	return info.Transport == sip.Local || g.isPeer(info) || g.scene.Load().doors[info.Door].trusts(f.Remote.Addr())
}

// hides says whether somebody asked that who they are stays within the trust domain
// (RFC 3325 §9.3).
//
//	Privacy: header;id
func hides(m *sip.Message) bool {
	if !m.Has(sip.HPrivacy) {
		return false
	}
	for list := range m.Values(sip.HPrivacy) {
		for v := range bytes.SplitSeq(list, []byte(";")) {
			if bytes.EqualFold(bytes.TrimSpace(v), []byte("id")) {
				return true
			}
		}
	}
	return false
}

// leaving sees each message that goes out over f. Who asked to stay hidden is named to
// servers of the topology alone (RFC 3325 §7). Who answered is believed as who asks is
// (§5); requests went through admit.
func (g *Gate) leaving(m *sip.Message, f sip.Flow) {
	if !m.IsRequest() && m.Has(sip.HPAssertedIdentity) && !g.believes(m.Flow) {
		m.Remove(sip.HPAssertedIdentity)
	}
	if !hides(m) {
		return
	}
	if info := f.Link.Info(); info.Transport == sip.Local || g.isPeer(info) {
		return
	}
	m.Remove(sip.HPAssertedIdentity)
	m.RemoveName("Remote-Party-ID")
}

// inOwnName refuses a From that is none of the person's addresses, and a REGISTER for
// somebody else.
func (g *Gate) inOwnName(r *Request) error {
	a := r.From.Account
	if r.Method() == sip.REGISTER {
		to, err := r.Message.To()
		if err != nil {
			return &sip.Error{Status: 400, Reason: "Bad To"}
		}
		r.aor = to.URI.AppendAOR(r.aor[:0])
		if !a.Is(r.aor) {
			return &sip.Error{Status: 403, Reason: "Not Your Address"}
		}
	}
	if a.Is(r.from) || isAnonymous(r.from) {
		return nil
	}
	for _, n := range a.Numbers {
		if user, _, _ := bytes.Cut(r.from, []byte("@")); string(user) == n {
			return nil
		}
	}
	return &sip.Error{Status: 403, Reason: "Not Your Address"}
}

// isAnonymous is the From of somebody who hides (RFC 3323 §4.1.1.3); the identity is
// known all the same.
func isAnonymous(from []byte) bool { return string(from) == "anonymous@anonymous.invalid" }
