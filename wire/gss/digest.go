// Package gss is sign-in by challenge and answer. So far it is Digest, with MD5 and
// SHA-256: RFC 7616, RFC 8760, RFC 2069 for what old clients send.
//
// Nonces need no state until somebody has answered one rightly; then a bounded table
// keeps which counts were used. Each shard of that table has a lock; all else is values,
// and there are no goroutines.
package gss

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strconv"
)

// Algorithm is the name of a Digest algorithm as it is sent.
type Algorithm string

// The algorithms. The -sess forms hash the nonces into HA1 once more.
const (
	MD5        Algorithm = "MD5"
	MD5Sess    Algorithm = "MD5-sess"
	SHA256     Algorithm = "SHA-256"
	SHA256Sess Algorithm = "SHA-256-sess"
)

// algorithmOf reads a name in any case; none means MD5.
// RFC 7616 §3.3
func algorithmOf(b []byte) (Algorithm, bool) {
	if b == nil {
		return MD5, true
	}
	for _, a := range [...]Algorithm{MD5, SHA256, MD5Sess, SHA256Sess} {
		if foldEqual(b, string(a)) {
			return a, true
		}
	}
	return "", false
}

func (a Algorithm) sess() bool { return a == MD5Sess || a == SHA256Sess }

// size is that of a sum in octets.
func (a Algorithm) size() int {
	if a == MD5 || a == MD5Sess {
		return md5.Size
	}
	return sha256.Size
}

// QOP is the quality of protection of an answer.
type QOP uint8

// The qualities. NoQOP is the form of RFC 2069, without a count.
const (
	NoQOP QOP = iota
	Auth
	AuthInt
)

var qopNames = [...]string{"", "auth", "auth-int"}

// String gives the name as sent.
func (q QOP) String() string { return qopNames[q] }

// Errors of ParseCredentials and ParseChallenge.
var (
	ErrScheme    = errors.New("not digest")                   // another scheme: no credentials for us
	ErrSyntax    = errors.New("bad digest parameters")        // answer 400
	ErrAlgorithm = errors.New("unsupported digest algorithm") // as if there were none
)

// Credentials is the value of Authorization or Proxy-Authorization. All fields are views
// of the value, without quotes, backslashes as they were.
// RFC 7616 §3.4
type Credentials struct {
	Username, Realm, Nonce, URI []byte // URI is what was hashed, be it "(null)" as from pidgin-sipe; compare it only if you must
	Response, CNonce, Opaque    []byte
	NC                          uint32 // 0 without qop
	Algorithm                   Algorithm
	QOP                         QOP
	nc                          []byte // as written
}

// ParseCredentials reads a header value. It allocates nothing.
func ParseCredentials(b []byte) (Credentials, error) {
	var c Credentials
	var algorithm, qop []byte
	p, ok := scheme(b)
	if !ok {
		return c, ErrScheme
	}
	for p.next() {
		to := c.place(p.name, &algorithm, &qop)
		if to == nil {
			continue
		}
		if *to != nil { // twice: which one would be meant?
			return c, ErrSyntax
		}
		*to = p.value
	}
	if p.bad || c.Username == nil || c.Realm == nil || c.Nonce == nil || c.URI == nil || c.Response == nil {
		return c, ErrSyntax
	}
	return c, c.finish(algorithm, qop)
}

// place gives where a parameter's value belongs, nil for one that we do not read.
func (c *Credentials) place(name []byte, algorithm, qop *[]byte) *[]byte {
	word, to := "", (*[]byte)(nil)
	switch len(name)<<8 | int(lower(name[0])) {
	case 2<<8 | 'n':
		word, to = "nc", &c.nc
	case 3<<8 | 'u':
		word, to = "uri", &c.URI
	case 3<<8 | 'q':
		word, to = "qop", qop
	case 5<<8 | 'r':
		word, to = "realm", &c.Realm
	case 5<<8 | 'n':
		word, to = "nonce", &c.Nonce
	case 6<<8 | 'c':
		word, to = "cnonce", &c.CNonce
	case 6<<8 | 'o':
		word, to = "opaque", &c.Opaque
	case 8<<8 | 'u':
		word, to = "username", &c.Username
	case 8<<8 | 'r':
		word, to = "response", &c.Response
	case 9<<8 | 'a':
		word, to = "algorithm", algorithm
	}
	if !foldEqual(name, word) {
		return nil
	}
	return to
}

// finish reads algorithm, qop and nc.
func (c *Credentials) finish(algorithm, qop []byte) error {
	var ok bool
	if c.Algorithm, ok = algorithmOf(algorithm); !ok {
		return ErrAlgorithm
	}
	switch {
	case qop == nil:
		if c.Algorithm.sess() && c.CNonce == nil {
			return ErrSyntax
		}
		return nil
	case foldEqual(qop, "auth"):
		c.QOP = Auth
	case foldEqual(qop, "auth-int"):
		c.QOP = AuthInt
	default:
		return ErrSyntax
	}
	if c.CNonce == nil || len(c.nc) != 8 {
		return ErrSyntax
	}
	for _, d := range c.nc {
		v := unhex(d)
		if v > 15 {
			return ErrSyntax
		}
		c.NC = c.NC<<4 | uint32(v)
	}
	if c.NC == 0 {
		return ErrSyntax
	}
	return nil
}

// HA1 gives the sum of "user:realm:password" (16 or 32 octets), the only thing about a
// password that a server must keep for Digest. For a -sess algorithm it is the same.
func HA1(alg Algorithm, user, realm, password string) []byte {
	b := make([]byte, 0, len(user)+len(realm)+len(password)+2)
	b = append(append(append(append(append(b, user...), ':'), realm...), ':'), password...)
	if alg.size() == md5.Size {
		s := md5.Sum(b)
		return s[:]
	}
	s := sha256.Sum256(b)
	return s[:]
}

// Verify checks the response in constant time. ha1 is HA1's result for the credentials'
// algorithm and realm; the caller has compared realm and user. It allocates nothing while
// the values are of usual length. The nonce is another matter: ask Nonces.Check
// afterwards.
// RFC 7616 §3.4.1
func (c *Credentials) Verify(ha1 []byte, method []byte, body []byte) bool {
	if len(ha1) != c.Algorithm.size() || len(c.Response) != 2*len(ha1) {
		return false
	}
	var want, got [2 * sha256.Size]byte
	n := copy(got[:], c.Response)
	for i, b := range got[:n] {
		if b >= 'A' && b <= 'F' {
			got[i] = b | 0x20
		}
	}
	c.sum(&want, ha1, method, body)
	return subtle.ConstantTimeCompare(want[:n], got[:n]) == 1
}

// usual is how much of the hashed text has room without allocation.
const usual = 768

// sum writes the response in hexadecimal.
func (c *Credentials) sum(out *[2 * sha256.Size]byte, ha1, method, body []byte) {
	var room [usual]byte
	var hex1, hex2 [2 * sha256.Size]byte
	n := 2 * len(ha1)
	hexTo(&hex1, ha1)
	if c.Algorithm.sess() {
		b := append(append(append(append(append(room[:0], hex1[:n]...), ':'), c.Nonce...), ':'), c.CNonce...)
		c.Algorithm.hash(&hex1, b)
	}
	b := append(append(append(room[:0], method...), ':'), c.URI...)
	if c.QOP == AuthInt {
		c.Algorithm.hash(&hex2, body)
		b = append(append(b, ':'), hex2[:n]...)
	}
	c.Algorithm.hash(&hex2, b)
	b = append(append(append(append(room[:0], hex1[:n]...), ':'), c.Nonce...), ':')
	if c.QOP != NoQOP {
		b = append(append(append(append(b, c.nc...), ':'), c.CNonce...), ':')
		b = append(append(b, c.QOP.String()...), ':')
	}
	c.Algorithm.hash(out, append(b, hex2[:n]...))
}

// hash writes the sum of b in hexadecimal.
func (a Algorithm) hash(out *[2 * sha256.Size]byte, b []byte) {
	if a.size() == md5.Size {
		s := md5.Sum(b)
		hexTo(out, s[:])
		return
	}
	s := sha256.Sum256(b)
	hexTo(out, s[:])
}

func hexTo(out *[2 * sha256.Size]byte, b []byte) {
	const digits = "0123456789abcdef"
	for i, c := range b {
		out[2*i], out[2*i+1] = digits[c>>4], digits[c&15]
	}
}

// AppendInfo appends the value of Authentication-Info for credentials that were verified:
// proof that the server knows HA1 too. body is the response's.
// RFC 7616 §3.5
func (c *Credentials) AppendInfo(dst []byte, ha1, body []byte) []byte {
	var out [2 * sha256.Size]byte
	c.sum(&out, ha1, nil, body)
	dst = append(append(append(dst, `rspauth="`...), out[:2*len(ha1)]...), '"')
	if c.QOP != NoQOP {
		dst = append(append(dst, `, qop=`...), c.QOP.String()...)
		dst = append(append(append(dst, `, cnonce="`...), c.CNonce...), '"')
		dst = append(append(dst, `, nc=`...), c.nc...)
	}
	return dst
}

// Challenge is the value of WWW-Authenticate or Proxy-Authenticate.
// RFC 7616 §3.3
type Challenge struct {
	Realm, Opaque string
	Nonce         []byte
	Algorithm     Algorithm
	Stale         bool   // the answer was right, only its nonce is too old
	QOP           string // "auth", "auth,auth-int", "" for the form of RFC 2069
}

// AppendTo appends the value. A server that offers several algorithms sends a header for
// each, the best first.
// RFC 8760 §2.3
func (c *Challenge) AppendTo(dst []byte) []byte {
	dst = append(dst, `Digest realm=`...)
	dst = appendQuoted(dst, c.Realm)
	dst = append(dst, `, nonce="`...)
	dst = append(dst, c.Nonce...)
	dst = append(dst, '"')
	if c.Opaque != "" {
		dst = append(dst, `, opaque=`...)
		dst = appendQuoted(dst, c.Opaque)
	}
	if c.Stale {
		dst = append(dst, `, stale=true`...)
	}
	dst = append(dst, `, algorithm=`...)
	dst = append(dst, c.Algorithm...)
	if c.QOP != "" {
		dst = append(dst, `, qop=`...)
		dst = appendQuoted(dst, c.QOP)
	}
	return dst
}

func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' {
			dst = append(dst, '\\', c)
		} else if c >= ' ' && c != 0x7f {
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// ParseChallenge reads a challenge.
func ParseChallenge(b []byte) (Challenge, error) {
	var c Challenge
	var algorithm []byte
	p, ok := scheme(b)
	if !ok {
		return c, ErrScheme
	}
	realm := false
	for p.next() {
		switch {
		case foldEqual(p.name, "realm"):
			c.Realm, realm = unquote(p.value), true
		case foldEqual(p.name, "nonce"):
			c.Nonce = p.value
		case foldEqual(p.name, "opaque"):
			c.Opaque = unquote(p.value)
		case foldEqual(p.name, "stale"):
			c.Stale = foldEqual(p.value, "true")
		case foldEqual(p.name, "algorithm"):
			algorithm = p.value
		case foldEqual(p.name, "qop"):
			c.QOP = string(p.value)
		}
	}
	if p.bad || c.Nonce == nil || !realm {
		return c, ErrSyntax
	}
	if c.Algorithm, ok = algorithmOf(algorithm); !ok {
		return c, ErrAlgorithm
	}
	return c, nil
}

// Login is what a client answers a challenge with.
type Login struct {
	User, Password string
	Method, URI    string // of the request
	NC             uint32 // how often this nonce was used, this time included
	CNonce         string // the client's own random text
	Body           []byte // of the request, for auth-int
}

// Answer gives the value of Authorization for a challenge. It takes auth where both
// qualities are offered.
func Answer(challenge []byte, l Login) (string, error) {
	ch, err := ParseChallenge(challenge)
	if err != nil {
		return "", err
	}
	c := Credentials{
		Username: []byte(l.User), Realm: []byte(ch.Realm), Nonce: ch.Nonce, URI: []byte(l.URI),
		CNonce: []byte(l.CNonce), Algorithm: ch.Algorithm,
	}
	switch {
	case ch.QOP == "":
	case listed(ch.QOP, "auth"):
		c.QOP = Auth
	case listed(ch.QOP, "auth-int"):
		c.QOP = AuthInt
	default:
		return "", ErrSyntax
	}
	if c.QOP != NoQOP {
		nc := strconv.FormatUint(uint64(l.NC), 16)
		c.nc = []byte("00000000"[:8-len(nc)] + nc)
	}
	var out [2 * sha256.Size]byte
	ha1 := HA1(c.Algorithm, l.User, ch.Realm, l.Password)
	c.sum(&out, ha1, []byte(l.Method), l.Body)
	dst := append([]byte(nil), `Digest username=`...)
	dst = append(appendQuoted(dst, l.User), `, realm=`...)
	dst = append(appendQuoted(dst, ch.Realm), `, nonce="`...)
	dst = append(append(dst, ch.Nonce...), `", uri=`...)
	dst = append(appendQuoted(dst, l.URI), `, response="`...)
	dst = append(append(dst, out[:2*len(ha1)]...), `", algorithm=`...)
	dst = append(dst, c.Algorithm...)
	if c.QOP != NoQOP || c.Algorithm.sess() {
		dst = appendQuoted(append(dst, `, cnonce=`...), l.CNonce)
	}
	if c.QOP != NoQOP {
		dst = append(append(dst, `, qop=`...), c.QOP.String()...)
		dst = append(append(dst, `, nc=`...), c.nc...)
	}
	if ch.Opaque != "" {
		dst = appendQuoted(append(dst, `, opaque=`...), ch.Opaque)
	}
	return string(dst), nil
}
