package client

import (
	"strings"
	"sync"

	"fernamt/wire/gss"
	"fernamt/wire/sip"
)

// credentials remembers the last challenge of each kind, so that most requests go out with
// an answer at once. RFC 7616 §3.4: the count grows with each use of a nonce.
type credentials struct {
	mu                sync.Mutex
	address, password string
	last              map[sip.Header]*challenge // by the header that the answer goes into
}

type challenge struct {
	value []byte
	used  uint32
}

// authorize answers a challenge: the first whose algorithm we know, as RFC 8760 §2.4 wants.
// A challenge to an answer that was made for the peer's own nonce means that the password
// is wrong, unless it says stale.
func (k *Client) authorize(req, resp *sip.Message, try int) bool {
	from, to := sip.HWWWAuthenticate, sip.HAuthorization
	if resp.StatusCode() == 407 {
		from, to = sip.HProxyAuthenticate, sip.HProxyAuthorization
	}
	k.creds.mu.Lock()
	none := k.creds.password == ""
	k.creds.mu.Unlock()
	if none {
		return false
	}
	for name, v := range resp.Fields() {
		if sip.HeaderOf(name) != from {
			continue
		}
		ch, err := gss.ParseChallenge(v)
		if err != nil || k.c.MD5Only && ch.Algorithm != gss.MD5 {
			continue
		}
		if req.Has(to) && try > 1 && !ch.Stale {
			return false
		}
		k.creds.mu.Lock()
		if k.creds.last == nil {
			k.creds.last = map[sip.Header]*challenge{}
		}
		k.creds.last[to] = &challenge{value: append([]byte(nil), v...)}
		k.creds.mu.Unlock()
		return k.answer(req, to)
	}
	return false
}

// answer puts credentials into req for the challenge that is remembered.
func (k *Client) answer(req *sip.Message, to sip.Header) bool {
	k.creds.mu.Lock()
	c := k.creds.last[to]
	if c == nil {
		k.creds.mu.Unlock()
		return false
	}
	c.used++
	value, nc, password := c.value, c.used, k.creds.password
	k.creds.mu.Unlock()
	a, err := gss.Answer(value, gss.Login{User: k.c.Login, Password: password, Method: string(req.MethodName()),
		URI: string(req.RequestURI()), NC: nc, CNonce: token(), Body: req.Body()})
	if err != nil {
		return false
	}
	req.Set(to, []byte(a))
	return true
}

// prepare is the agent's: the first try of a request goes out with what we know.
func (k *Client) prepare(req *sip.Message, _ sip.Flow) {
	k.answer(req, sip.HAuthorization)
	k.answer(req, sip.HProxyAuthorization)
}

// Forget drops what is known of challenges, as a restarted phone has.
func (k *Client) Forget() {
	k.creds.mu.Lock()
	k.creds.last = nil
	k.creds.mu.Unlock()
}

// SetPassword changes the password that challenges are answered with.
func (k *Client) SetPassword(p string) {
	k.creds.mu.Lock()
	defer k.creds.mu.Unlock()
	k.creds.password, k.creds.last = p, nil
}

// SetAddress makes the client speak for another address, as somebody who lies would; the
// login stays.
func (k *Client) SetAddress(a string) {
	k.creds.mu.Lock()
	defer k.creds.mu.Unlock()
	k.creds.address = strings.TrimPrefix(a, "sip:")
}

// Address is the person's address.
func (k *Client) Address() string {
	k.creds.mu.Lock()
	defer k.creds.mu.Unlock()
	return k.creds.address
}
