package sip

import (
	"testing"

	"fernamt/test/is"
)

// uri parses what must be right.
func uri(t testing.TB, s string) URI {
	t.Helper()
	u, err := ParseURI([]byte(s))
	is.NoErr(t, err, s)
	return u
}

func TestURIParts(t *testing.T) {
	for _, c := range []struct {
		in, user, password, host string
		port                     uint16
		params, headers, aor     string
	}{
		{"sip:alice@atlanta.com", "alice", "", "atlanta.com", 0, "", "", "alice@atlanta.com"},
		{"sip:alice:secretword@Atlanta.com;transport=tcp", "alice", "secretword", "Atlanta.com", 0, ";transport=tcp", "", "alice@atlanta.com"},
		{"SIPS:alice@atlanta.com:5061?subject=project%20x&priority=urgent", "alice", "", "atlanta.com", 5061, "", "subject=project%20x&priority=urgent", "alice@atlanta.com"},
		{"sip:+1-212-555-1212:1234@gateway.com;user=phone", "+1-212-555-1212", "1234", "gateway.com", 0, ";user=phone", "", "+1-212-555-1212@gateway.com"},
		{"sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com", "", "", "atlanta.com", 0, ";method=REGISTER", "to=alice%40atlanta.com", "atlanta.com"},
		{"sip:alice;day=tuesday@atlanta.com", "alice;day=tuesday", "", "atlanta.com", 0, "", "", "alice;day=tuesday@atlanta.com"},
		{"sip:sips%3Auser%40example.com@example.net", "sips%3Auser%40example.com", "", "example.net", 0, "", "", "sips:user@example.com@example.net"},
		{"sip:%75se%72@example.com", "%75se%72", "", "example.com", 0, "", "", "user@example.com"},
		{"sip:a%2525b@h", "a%2525b", "", "h", 0, "", "", "a%25b@h"},
		{"sip:100%@h", "100%", "", "h", 0, "", "", "100%@h"},
		{"sip:[2001:db8::10:5070]", "", "", "[2001:db8::10:5070]", 0, "", "", "[2001:db8::10:5070]"},
		{"sip:u@[2001:DB8::10]:5070;lr", "u", "", "[2001:DB8::10]", 5070, ";lr", "", "u@[2001:db8::10]"},
		{"sip:alice@example.test;opaque=user:epid:AbC;gruu", "alice", "", "example.test", 0, ";opaque=user:epid:AbC;gruu", "", "alice@example.test"},
		{"tel:+49-89-(123).45;phone-context=x", "+49-89-(123).45", "", "", 0, ";phone-context=x", "", "+498912345"},
		{"urn:service:sos", "", "", "", 0, "", "", "urn:service:sos"},
		{"http://www.example.com/a?b", "", "", "", 0, "", "", "http://www.example.com/a?b"},
	} {
		u := uri(t, c.in)
		is.Equal(t, string(u.User), c.user, c.in)
		is.Equal(t, string(u.Password), c.password, c.in)
		is.Equal(t, string(u.Host), c.host, c.in)
		is.Equal(t, u.Port, c.port, c.in)
		is.Equal(t, string(u.Params), c.params, c.in)
		is.Equal(t, string(u.Headers), c.headers, c.in)
		is.Equal(t, string(u.AppendAOR(nil)), c.aor, c.in)
		is.Equal(t, u.String(), c.in)
	}
}

func TestURIBad(t *testing.T) {
	for _, s := range []string{
		"", "sip", "sip:", ":a", "1ip:a", "<sip:a@b>", "sip:@b", "sip::pw@b", "sip:a@", "sip:a@b@c", "sip:a b@c", "sip:a@b c",
		"sip:a@b:", "sip:a@b:x", "sip:a@b:65536", "sip:a@b:99999999999999999999", "sip:2001:db8::10", "sip:[2001:db8::10", "sip:[]",
		"sip:[1:2:3:4:5:6:7]", "sip:[1::2::3]", "sip:[12345::]", "sip:[1:2:3:4:5:6:7:8:9]", "sip:[::1.2.3]", "sip:[::1.2.3.256]", "sip:[g::]",
		"sip:a@b;", "sip:a@b;;lr", "sip:a@b;=x", "sip:a@b;x=\"y\"", "sip:a@b?", "sip:a@b;x=<", "sip:a@b/c", "sip:a@b?x y",
		"tel:", "tel:-", "tel:abcxyz", "tel:12+3", "tel:1;;", "x:", "x:a b", "x:a\x00b", "sip:a@b\x7f", "sip:a@b\r\n",
	} {
		if u, err := ParseURI([]byte(s)); err == nil {
			t.Errorf("%q is no error: %v", s, u)
		}
	}
}

// The examples of RFC 3261 §19.1.4 and some more.
func TestURIEqual(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp", true},
		{"sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5", true},
		{"sip:carol@chicago.com", "sip:carol@chicago.com;security=on", true},
		{"sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on", true},
		{"sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com", "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com", true},
		{"sip:alice@atlanta.com?subject=project%20x&priority=urgent", "sip:alice@atlanta.com?priority=urgent&subject=project%20x", true},
		{"SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP", false},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com:5060", false},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp", false},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp", false},
		{"sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting", false},
		{"sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4", false},
		{"sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off", false},
		{"sip:a@h", "sips:a@h", false},
		{"sip:a@h", "sip:h", false},
		{"sip:a:x@h", "sip:a@h", false},
		{"sip:a@h;maddr=1.2.3.4", "sip:a@h", false},
		{"sip:a@h;lr", "sip:a@h", true},
		{"sip:a@h;%6C%72=1", "sip:a@h;lr=2", false},
		{"sip:a@[2001:db8::1]", "sip:a@[2001:0DB8:0::1]", true},
		{"sip:a@[2001:db8:::192.0.2.1]", "sip:a@[2001:db8::192.0.2.1]", true},
		{"sip:a%00@h", "sip:a%00%00@h", false},
		{"tel:+1-212", "tel:+1212", true},
		{"tel:+1212", "tel:+1213", false},
		{"urn:service:sos", "urn:service:sos", true},
		{"urn:service:sos", "urn:service:fire", false},
		{"urn:x", "sip:x", false},
	} {
		a, b := uri(t, c.a), uri(t, c.b)
		is.Equal(t, a.Equal(b), c.want, c.a, c.b)
		is.Equal(t, b.Equal(a), c.want, c.b, c.a)
	}
}

func TestURIParam(t *testing.T) {
	u := uri(t, "sip:a@h;Transport=tcp;%6C%72;n%61me=v%61lue%25%34%31")
	v, ok := u.Param("transport")
	is.True(t, ok && string(v) == "tcp", "transport")
	v, ok = u.Param("lr")
	is.True(t, ok && v == nil, "lr")
	v, ok = u.Param("name")
	is.True(t, ok && string(v) == "v%61lue%25%34%31", "name")
	_, ok = u.Param("ttl")
	is.True(t, !ok, "ttl")
}

func TestAddr(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1": "127.0.0.1", "[::1]": "::1", "::1": "::1", "[::]": "::", "[2001:db8:::192.0.2.1]": "2001:db8::c000:201",
		"[::ffff:192.0.2.10]": "::ffff:192.0.2.10", "1:2:3:4:5:6:7:8": "1:2:3:4:5:6:7:8", "1::8": "1::8", "[1:2:3:4:5:6:7::]": "1:2:3:4:5:6:7:0",
		"": "", "1.2.3": "", "1.2.3.4.5": "", "256.1.1.1": "", "0001.2.3.4": "", "example.com": "", "[]": "", "[:]": "", "1:2:3:4:5:6:7:8::": "", "::::": "", "1:": "",
	} {
		a, ok := parseAddr([]byte(in))
		is.Equal(t, ok, want != "", in)
		if ok {
			is.Equal(t, a.String(), want, in)
		}
	}
}

func FuzzURI(f *testing.F) {
	for _, s := range []string{
		"sip:alice:pw@atlanta.com:5060;transport=tcp;lr?a=b&c=d", "sips:[2001:db8::1]:5061", "tel:+49-89;phone-context=+1", "urn:service:sos",
		"sip:sips%3Auser%40example.com@example.net", "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1@example.com",
	} {
		f.Add([]byte(s), []byte("sip:a@b"))
	}
	f.Fuzz(func(t *testing.T, b, other []byte) {
		u, err := ParseURI(b)
		if err != nil {
			return
		}
		is.True(t, u.Equal(u), "equal to itself", string(b))
		text := u.AppendTo(nil)
		again, err := ParseURI(text)
		is.NoErr(t, err, string(text))
		is.Equal(t, string(again.AppendTo(nil)), string(text))
		is.Equal(t, string(again.AppendAOR(nil)), string(u.AppendAOR(nil)))
		is.True(t, again.Equal(u), "equal to its copy", string(b))
		u.Param("lr")
		if v, err := ParseURI(other); err == nil {
			is.Equal(t, u.Equal(v), v.Equal(u), "both ways")
		}
	})
}
