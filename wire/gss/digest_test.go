package gss

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"fernamt/test/is"
)

// The examples of RFC 7616 §3.9.1: the same request with both algorithms.
const example = `Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=%A, ` +
	`nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", ` +
	`qop=auth, response="%R", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`

var examples = []struct {
	alg      Algorithm
	response string
}{
	{MD5, "8ca523f5e9506fed4657c9700eebdbec"},
	{SHA256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"},
}

func exampleValue(alg Algorithm, response string) []byte {
	return []byte(strings.NewReplacer("%A", string(alg), "%R", response).Replace(example))
}

// RFC 7616 §3.9.1
func TestExamples(t *testing.T) {
	for _, e := range examples {
		c, err := ParseCredentials(exampleValue(e.alg, e.response))
		is.NoErr(t, err)
		is.Equal(t, c.NC, 1)
		is.Equal(t, c.QOP, Auth)
		is.Equal(t, string(c.Username), "Mufasa")
		ha1 := HA1(e.alg, "Mufasa", "http-auth@example.org", "Circle of Life")
		is.True(t, c.Verify(ha1, []byte("GET"), nil), "right", string(e.alg))
		is.True(t, !c.Verify(ha1, []byte("POST"), nil), "other method")
		is.True(t, !c.Verify(HA1(e.alg, "Mufasa", "http-auth@example.org", "circle of life"), []byte("GET"), nil), "other password")
		is.True(t, !c.Verify(ha1[1:], []byte("GET"), nil), "short HA1")
		for i := range c.Response {
			c.Response[i] ^= 1
			is.True(t, !c.Verify(ha1, []byte("GET"), nil), "flipped digit")
			c.Response[i] ^= 1
		}
		upper, err := ParseCredentials(exampleValue(e.alg, strings.ToUpper(e.response)))
		is.NoErr(t, err)
		is.True(t, upper.Verify(ha1, []byte("GET"), nil), "capital digits")
	}
}

// The example of RFC 2617 §3.5 and its form of RFC 2069 without qop, computed by the rule
// of RFC 7616 §3.4.1 with other means.
func TestWithoutQOP(t *testing.T) {
	v := `Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="/dir/index.html", response="670fd8c2df070c60b045671b8b24ff02"`
	c, err := ParseCredentials([]byte(v))
	is.NoErr(t, err)
	is.Equal(t, c.QOP, NoQOP)
	is.True(t, c.Verify(HA1(MD5, "Mufasa", "testrealm@host.com", "Circle Of Life"), []byte("GET"), nil))
	v = `Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="/dir/index.html", ` +
		`qop=auth, nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41"`
	c, err = ParseCredentials([]byte(v))
	is.NoErr(t, err)
	is.True(t, c.Verify(HA1(MD5, "Mufasa", "testrealm@host.com", "Circle Of Life"), []byte("GET"), nil), "RFC 2617 §3.5")
}

// slow computes a response as the RFC's formulas read, without the code under test.
func slow(a Algorithm, l Login, realm, nonce, qop string) string {
	h := func(s string) string {
		if strings.HasPrefix(string(a), "SHA") {
			x := sha256.Sum256([]byte(s))
			return hex.EncodeToString(x[:])
		}
		return md5Hex(s)
	}
	a1 := h(l.User + ":" + realm + ":" + l.Password)
	if strings.HasSuffix(string(a), "-sess") {
		a1 = h(a1 + ":" + nonce + ":" + l.CNonce)
	}
	a2 := l.Method + ":" + l.URI
	if qop == "auth-int" {
		a2 += ":" + h(string(l.Body))
	}
	if qop == "" {
		return h(a1 + ":" + nonce + ":" + h(a2))
	}
	return h(a1 + ":" + nonce + ":0000001f:" + l.CNonce + ":" + qop + ":" + h(a2))
}

// Each algorithm with each quality, from challenge to verified answer.
func TestAnswer(t *testing.T) {
	l := Login{User: `al"ice`, Password: "pä:ss", Method: "REGISTER", URI: "sip:example.test", NC: 0x1f, CNonce: "c0", Body: []byte("body")}
	for _, a := range []Algorithm{MD5, MD5Sess, SHA256, SHA256Sess} {
		for _, q := range []string{"", "auth", "auth-int", "auth-int,auth"} {
			ch := Challenge{Realm: `ex\ample`, Nonce: []byte("nonce1"), Opaque: "op", Algorithm: a, QOP: q, Stale: true}
			text := ch.AppendTo(nil)
			back, err := ParseChallenge(text)
			is.NoErr(t, err)
			is.Equal(t, back, ch)
			v, err := Answer(text, l)
			is.NoErr(t, err)
			c, err := ParseCredentials([]byte(v))
			is.NoErr(t, err, v)
			if q == "auth-int,auth" {
				q = "auth"
			}
			is.Equal(t, string(c.Response), slow(a, l, ch.Realm, "nonce1", q), string(a), q)
			ha1 := HA1(a, l.User, ch.Realm, l.Password)
			is.True(t, c.Verify(ha1, []byte("REGISTER"), []byte("body")), string(a), q)
			is.Equal(t, c.Verify(ha1, []byte("REGISTER"), []byte("bodY")), q != "auth-int", "other body")
		}
	}
}

// pidgin-sipe hashes and sends the URI "(null)" in its 407 form.
func TestNullURI(t *testing.T) {
	v := `Digest username="alice@example.test", realm="example.test", nonce="n", uri="(null)", qop=auth, nc=00000001, cnonce="abc", response="` +
		md5Hex(md5Hex("alice@example.test:example.test:secret")+":n:00000001:abc:auth:"+md5Hex("REGISTER:(null)")) + `"`
	c, err := ParseCredentials([]byte(v))
	is.NoErr(t, err)
	is.Equal(t, string(c.URI), "(null)")
	is.True(t, c.Verify(HA1(MD5, "alice@example.test", "example.test", "secret"), []byte("REGISTER"), nil))
}

func TestBadCredentials(t *testing.T) {
	good := `Digest username="a", realm="r", nonce="n", uri="u", response="x"`
	for _, c := range []struct {
		v   string
		err error
	}{
		{good, nil},
		{"digest\tusername=a,realm=r , nonce = n,,uri=\"u\",response=\"x\",", nil},
		{`NoOneKnowsThisScheme opaque-data=here`, ErrScheme},
		{`Digest`, ErrScheme},
		{`NTLM qop="auth"`, ErrScheme},
		{strings.Replace(good, `username="a", `, "", 1), ErrSyntax},
		{good + `, realm="other"`, ErrSyntax},
		{good + `, qop=auth`, ErrSyntax},
		{good + `, qop=auth, cnonce="c", nc=1`, ErrSyntax},
		{good + `, qop=auth, cnonce="c", nc=0000000g`, ErrSyntax},
		{good + `, qop=auth, cnonce="c", nc=00000000`, ErrSyntax},
		{good + `, qop=other, cnonce="c", nc=00000001`, ErrSyntax},
		{good + `, qop=auth, cnonce="c", nc=000000ff`, nil},
		{good + `, algorithm=MD5-sess`, ErrSyntax},
		{good + `, algorithm=SHA-512-256`, ErrAlgorithm},
		{good + `, opaque="x`, ErrSyntax},
		{good + `, opaque`, ErrSyntax},
		{good + `, ="x"`, ErrSyntax},
		{good + `, opaque="x"y`, ErrSyntax},
	} {
		_, err := ParseCredentials([]byte(c.v))
		is.Equal(t, err, c.err, c.v)
	}
	for _, v := range []string{"Digest realm=x", "Digest nonce=x", "Basic realm=x", `Digest realm="x", nonce="y", algorithm=foo`} {
		_, err := Answer([]byte(v), Login{})
		is.True(t, err != nil, v)
	}
	_, err := Answer([]byte(`Digest realm="x", nonce="y", qop="other"`), Login{})
	is.Equal(t, err, ErrSyntax)
}

// RFC 7616 §3.5: the formula is that of a request without a method.
func TestInfo(t *testing.T) {
	c, err := ParseCredentials(exampleValue(MD5, examples[0].response))
	is.NoErr(t, err)
	ha1 := HA1(MD5, "Mufasa", "http-auth@example.org", "Circle of Life")
	want := md5Hex(hex.EncodeToString(ha1) + ":" + string(c.Nonce) + ":00000001:" + string(c.CNonce) + ":auth:" + md5Hex(":/dir/index.html"))
	is.Equal(t, string(c.AppendInfo(nil, ha1, nil)), `rspauth="`+want+`", qop=auth, cnonce="`+string(c.CNonce)+`", nc=00000001`)
}

func FuzzParseCredentials(f *testing.F) {
	f.Add(exampleValue(MD5, examples[0].response))
	f.Add([]byte("digest username=a,realm=r , nonce = n,,uri=\"u\\\"\",response=\"x\","))
	f.Add([]byte(`Digest realm="a", nonce="b", qop="auth,auth-int", stale=TRUE, opaque="\\"`))
	ha1 := HA1(MD5, "a", "b", "c")
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCredentials(b); err == nil {
			c.Verify(ha1, []byte("REGISTER"), b)
			is.True(t, (c.QOP == NoQOP) == (c.NC == 0), "count without qop")
		}
		if c, err := ParseChallenge(b); err == nil {
			again, err := ParseChallenge(c.AppendTo(nil))
			is.NoErr(t, err)
			is.Equal(t, again.Algorithm, c.Algorithm)
			v, err := Answer(b, Login{User: "a", Password: "p", Method: "INVITE", URI: "sip:b", NC: 1, CNonce: "c"})
			if err != nil {
				return
			}
			if cr, err := ParseCredentials([]byte(v)); err == nil {
				is.True(t, cr.Verify(HA1(c.Algorithm, "a", c.Realm, "p"), []byte("INVITE"), nil), "own answer", v)
			}
		}
	})
}
