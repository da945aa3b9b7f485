package sip

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fernamt/test/is"
)

// collect gives all values of a header as text.
func collect(m *Message, h Header) (all []string) {
	for v := range m.Values(h) {
		all = append(all, string(v))
	}
	return all
}

func TestWsinv(t *testing.T) {
	var m Message
	is.NoErr(t, m.Parse(read(t, "rfc4475", "wsinv.dat")))
	is.True(t, m.IsRequest() && m.Method() == INVITE && m.StatusCode() == 0 && m.Reason() == nil, "an INVITE")
	is.Equal(t, string(m.RequestURI()), "sip:vivekg@chair-dnrc.example.com;unknownparam")
	is.Equal(t, string(m.ToTag()), "1918181833n")
	is.Equal(t, string(m.FromTag()), "98asjd8")
	n, ok, err := m.MaxForwards()
	is.True(t, n == 68 && ok && err == nil, "Max-Forwards")
	seq, method, err := m.CSeq()
	is.True(t, seq == 9 && method == INVITE && err == nil, "CSeq")
	is.Equal(t, string(m.Get(HCSeq)), "0009 INVITE")
	is.Equal(t, len(collect(&m, HVia)), 3)
	v, err := m.Via()
	is.NoErr(t, err)
	is.Equal(t, string(v.Branch), "390skdjuw")
	is.Equal(t, m.Count(HVia), 2)
	is.True(t, m.Get(HSubject) != nil && len(m.Get(HSubject)) == 0, "empty Subject")
	is.Equal(t, string(m.GetName("NewFangledHeader")), "newfangled value continued newfangled value")
	is.Equal(t, string(m.GetName("v")), string(m.Get(HVia)))
	a, err := m.Contact()
	is.NoErr(t, err)
	is.Equal(t, string(Unquote(a.Display)), `Quoted string ""`)
	q, ok := a.Param("q")
	is.True(t, ok && string(q) == "0.33", "q")
	is.Equal(t, len(m.Body()), 150)
	_, ok, err = m.Expires()
	is.True(t, !ok && err == nil, "no Expires")
}

// What stands in some torture messages, beside their verdicts.
func TestTortureValues(t *testing.T) {
	at := func(dir, file string) *Message {
		m := &Message{}
		is.NoErr(t, m.Parse(read(t, dir, file+".dat")), file)
		return m
	}
	m := at("rfc4475", "escnull")
	is.Equal(t, collect(m, HContact), []string{"<sip:%00@host5.example.com>", "<sip:%00%00@host5.example.com>"})
	is.Equal(t, at("rfc4475", "esc02").Method(), Other)
	m = at("rfc4475", "dblreq")
	is.Equal(t, len(m.Body()), 0)
	is.True(t, bytes.HasSuffix(m.Bytes(), []byte("\r\n\r\n")) && !bytes.Contains(m.Bytes(), []byte("INVITE")), "the first only")
	is.Equal(t, string(at("rfc4475", "bext01").Unsupported(HRequire, "NothingSupportsTHIS")), "nothingSupportsThisEither")
	is.Equal(t, at("rfc4475", "bext01").Unsupported(HProxyRequire, "noProxiesSupportThis", "norDoAnyProxiesSupportThis"), nil)
	n, ok, _ := at("rfc4475", "zeromf").MaxForwards()
	is.True(t, ok && n == 0, "Max-Forwards 0")
	is.Equal(t, len(collect(at("rfc4475", "longreq"), HVia)), 34)
	is.Equal(t, string(at("rfc4475", "noreason").Reason()), "")
	is.Equal(t, string(at("rfc4475", "unreason").Reason()), "= 2**3 * 5**2 но сто девяносто девять - простое")
	is.Equal(t, at("rfc4475", "bcast").Method(), INVITE, "a response has its CSeq's method")
	is.Equal(t, string(at("rfc4475", "intmeth").MethodName()), "!interesting-Method0123456789_*+`.%indeed'~")
	u := uri(t, string(at("rfc5118", "port-ambiguous").RequestURI()))
	is.Equal(t, u.Port, 0)
	u = uri(t, string(at("rfc5118", "port-unambiguous").RequestURI()))
	is.Equal(t, u.Port, 5070)
	v, err := at("rfc5118", "via-received-param-no-delim").Via()
	is.NoErr(t, err)
	received, _ := v.Param("received")
	is.Equal(t, string(received), "2001:db8::9:255")
}

func TestHeaderNames(t *testing.T) {
	for h := HOther + 1; h < headers; h++ {
		name := h.String()
		for _, s := range []string{name, strings.ToUpper(name), strings.ToLower(name)} {
			is.Equal(t, HeaderOf([]byte(s)), h, s)
			m := parse(t, "OPTIONS sip:a@b SIP/2.0\n"+s+":1\n\n"+strings.Repeat(" ", 40))
			is.True(t, h == HContentLength || string(m.Get(h)) == "1", s)
		}
		is.Equal(t, HeaderOf([]byte(name+"x")), HOther)
		is.Equal(t, HeaderOf([]byte(name[1:]+"\x00")), HOther)
	}
	for c, want := range map[string]Header{"i": HCallID, "M": HContact, "e": HContentEncoding, "l": HContentLength, "C": HContentType, "f": HFrom, "s": HSubject,
		"K": HSupported, "t": HTo, "v": HVia, "o": HEvent, "u": HAllowEvents, "r": HReferTo, "b": HReferredBy, "x": HSessionExpires, "y": HIdentity, "": HOther,
		"g": HOther, "-": HOther, "@": HOther, "{": HOther, strings.Repeat("a", 33): HOther} {
		is.Equal(t, HeaderOf([]byte(c)), want, c)
	}
	for m := INVITE; m < methods; m++ {
		is.Equal(t, MethodOf([]byte(m.String())), m)
	}
	is.Equal(t, MethodOf([]byte("invite")), Other)
	is.Equal(t, Other.String()+Method(99).String()+HOther.String(), "OTHEROTHEROther")
}

// top is the least header that Check accepts, without its end.
const top = "Via: SIP/2.0/UDP h;branch=z9hG4bK1\nFrom: <sip:f@b>;tag=1\nTo: <sip:a@b>\nCall-ID: c1\nCSeq: 1 OPTIONS\n"

func TestRefused(t *testing.T) {
	line := func(s string) string { return "OPTIONS sip:a@b SIP/2.0\n" + top + s + "\n" }
	many := func(n int, s string) string { return strings.Repeat(s, n) }
	for _, c := range []struct {
		name, text string
		status     int
		drop       bool
	}{
		{"good", line(""), 0, false},
		{"lower version", "OPTIONS sip:a@b sip/2.0\n" + top + "\n", 0, false},
		{"leading line ends", "\n\n" + line(""), 0, false},
		{"version 3", "OPTIONS sip:a@b SIP/3.0\n" + top + "\n", 505, false},
		{"no version", "OPTIONS sip:a@b\n" + top + "\n", 400, false},
		{"not sip", "GET / HTTP/1.1\n" + top + "\n", 400, false},
		{"nonsense", "\x16\x03\x01\n\n", 400, true},
		{"empty", "", 400, true},
		{"no line end", "OPTIONS sip:a@b SIP/2.0", 400, true},
		{"response of version 3", "SIP/3.0 200 OK\n" + top + "\n", 400, true},
		{"response code 99", "SIP/2.0 099 OK\n" + top + "\n", 400, true},
		{"response code 700", "SIP/2.0 700 OK\n" + top + "\n", 400, true},
		{"response without Via", "SIP/2.0 200 OK\n\n", 400, true},
		{"response, odd Contact", "SIP/2.0 200 OK\n" + top + "Contact: <sip:a@b>;;\n\n", 0, false},
		{"response, bad To", "SIP/2.0 200 OK\n" + strings.Replace(top, "<sip:a@b>", "<sip:a", 1) + "\n", 400, true},
		{"response, 71 Vias", "SIP/2.0 200 OK\n" + top + many(MaxVias, "Via: SIP/2.0/UDP a\n") + "\n", 400, true},
		{"response, bad line", "SIP/2.0 200 OK\n" + top + "x\n\n", 400, true},
		{"no empty line", "OPTIONS sip:a@b SIP/2.0\n" + top, 400, false},
		{"line without colon", line("x\n"), 400, false},
		{"name with blank", line("a b: c\n"), 400, false},
		{"empty name", line(": c\n"), 400, false},
		{"stray CR", line("X: a\rb\n"), 400, false},
		{"CR in a known name", line("Call\rID: a\n"), 400, false},
		{"stray LF", line("X: a\x01\n"), 400, false},
		{"LF in a fold", line("X: a\x01 b\n"), 400, false},
		{"line of 8 KiB", line("X: " + many(8200, "a") + "\n"), 513, false},
		{"256 headers", line(many(MaxFields-5, "Z: a\n")), 0, false},
		{"257 headers", line(many(MaxFields-4, "Z: a\n")), 400, false},
		{"header of 64 KiB", line(many(9, "X: "+many(8000, "a")+"\n")), 513, false},
		{"70 Vias", line("Via: " + many(MaxVias-2, "SIP/2.0/UDP a,") + "SIP/2.0/UDP a\n"), 0, false},
		{"71 Vias", line(many(MaxVias, "Via: SIP/2.0/UDP a\n")), 400, false},
		{"100 Contacts", line(many(20, "Contact: "+many(4, "<sip:a@b>,")+"sip:a@b\n")), 0, false},
		{"101 Contacts", line(many(101, "Contact: <sip:a@b>\n")), 400, false},
		{"64 Record-Routes", line(many(MaxRoutes, "Record-Route: <sip:a;lr>\n")), 0, false},
		{"65 Record-Routes", line(many(MaxRoutes+1, "Record-Route: <sip:a;lr>\n")), 400, false},
		{"65 Routes", line("Route: " + many(MaxRoutes, "<sip:a;lr>,") + "<sip:a;lr>\n"), 400, false},
		{"route without brackets", line("Route: sip:a;lr\n"), 400, false},
		{"Content-Length twice", line("l: 0\nContent-Length: 0\n"), 400, false},
		{"Content-Length of 2 MiB", line("l: 2097152\n"), 413, false},
		{"Content-Length too long", line("l: 99999999999999999999\n"), 400, false},
		{"body missing", line("l: 1\n"), 400, false},
		{"body of 1 MiB and more", line("") + many(MaxBody+1, "a"), 413, false},
		{"ACK is never answered", "ACK sip:a@b SIP/2.0\n" + strings.Replace(top, "OPTIONS", "INVITE", 1) + "\n", 400, true},
		{"Max-Forwards", line("Max-Forwards: 256\n"), 400, false},
		{"Expires", line("Expires: 4294967296\n"), 400, false},
		{"Expires most", line("Expires: 4294967295\n"), 0, false},
		{"expires of a Contact", line("Contact: <sip:a@b>;expires=4294967296\n"), 400, false},
		{"star in no REGISTER", line("Contact: *\n"), 400, false},
		{"star as From", strings.Replace(line(""), "<sip:f@b>;tag=1", "*", 1), 400, false},
		{"two addresses in From", strings.Replace(line(""), "<sip:f@b>", "<sip:f@b>, <sip:g@b>", 1), 400, false},
		{"empty Call-ID", strings.Replace(line(""), "c1", "", 1), 400, false},
		{"blank in Call-ID", strings.Replace(line(""), "c1", "c 1", 1), 400, false},
		{"CSeq 2^31", strings.Replace(line(""), "1 OPTIONS", "2147483648 OPTIONS", 1), 400, false},
		{"CSeq most", strings.Replace(line(""), "1 OPTIONS", "2147483647 OPTIONS", 1), 0, false},
		{"CSeq without method", strings.Replace(line(""), "1 OPTIONS", "1", 1), 400, false},
		{"CSeq in one word", strings.Replace(line(""), "1 OPTIONS", "1OPTIONS", 1), 400, false},
		{"version of Via", strings.Replace(line(""), "SIP/2.0/UDP", "SIP/3.0/UDP", 1), 400, false},
		{"unknown URI", strings.Replace(line(""), "OPTIONS sip:a@b", "OPTIONS urn:x", 1), 0, false},
		{"no URI", strings.Replace(line(""), "OPTIONS sip:a@b", "OPTIONS ", 1), 400, false},
		{"tab for blank", strings.Replace(line(""), "OPTIONS sip:a@b", "OPTIONS\tsip:a@b", 1), 400, true},
	} {
		text := strings.ReplaceAll(strings.ReplaceAll(c.text, "\n", "\r\n"), "\x01\r\n", "\n")
		text = strings.ReplaceAll(text, "\x01", "\n")
		var m Message
		err := m.Parse([]byte(text))
		if err == nil {
			err = m.Check()
		}
		var e *Error
		if c.status == 0 {
			is.NoErr(t, err, c.name)
			continue
		}
		if !errors.As(err, &e) {
			t.Errorf("%s: no error", c.name)
			continue
		}
		is.Equal(t, e.Status, c.status, c.name, e.Error())
		is.Equal(t, e.Drop, c.drop, c.name, e.Error())
		if !e.Drop {
			var r Message
			is.NoErr(t, r.Parse(AppendResponse(nil, &m, e.Status, []byte("t"), nil)), c.name)
			is.True(t, r.Has(HVia), c.name)
		}
	}
}

// A fold of blanks alone must not become the end of the header.
func TestEmptyFold(t *testing.T) {
	m := parse(t, "OPTIONS sip:a@b SIP/2.0\nX: a\n \t\nY:\n \nSubject:\n\t b \n  c\n\nrest")
	is.Equal(t, listing(m), "X: a\nY: \nSubject: b c\n")
	roundTrip(t, parse(t, "OPTIONS sip:a@b SIP/2.0\nX: a\n \t\nY:\n \nSubject:\n\t b \n  c\n\nrest"))
}

// Folded values are read as one line, that of Content-Length too.
func TestFolds(t *testing.T) {
	m := parse(t, "OPTIONS sip:a@b SIP/2.0\nVia: SIP/2.0/UDP h\n ;branch=z9hG4bK1\nl:\n 1\nFrom:\n <sip:f@b>\n ;tag=1\nTo: <sip:a@b>\nCall-ID:\n c\nCSeq: 1\n OPTIONS\n\nbody")
	is.NoErr(t, m.Check())
	is.Equal(t, string(m.Body()), "b")
	is.Equal(t, string(m.FromTag())+string(m.CallID()), "1c")
	is.True(t, strings.HasSuffix(string(m.Bytes()), "\r\n\r\nb"), "received octets end with the body")
	is.Equal(t, listing(m), "Via: SIP/2.0/UDP h ;branch=z9hG4bK1\nFrom: <sip:f@b> ;tag=1\nTo: <sip:a@b>\nCall-ID: c\nCSeq: 1 OPTIONS\n")
}

func TestValues(t *testing.T) {
	m := parse(t, "OPTIONS sip:a@b SIP/2.0\nSupported: 100rel, Path ,, gruu\nk: \nSupported: x\nContact: \"a, \\\" b\" <sip:a,b@c>;x=\"1,2\", <sip:d@e>\nAllow: \"open, x\n\n")
	is.Equal(t, collect(m, HSupported), []string{"100rel", "Path", "gruu", "x"})
	is.Equal(t, collect(m, HContact), []string{`"a, \" b" <sip:a,b@c>;x="1,2"`, "<sip:d@e>"})
	is.Equal(t, collect(m, HAllow), []string{`"open, x`})
	is.True(t, m.HasToken(HSupported, "path") && m.HasToken(HSupported, "X") && !m.HasToken(HSupported, "pat"), "tokens")
	is.Equal(t, m.Count(HSupported), 3)
	is.Equal(t, m.Count(HContact), 1)
	is.Equal(t, m.Count(HFrom), 0)
	for range m.Values(HSupported) {
		break
	}
	for n := range m.Fields() {
		is.Equal(t, string(n), "Supported")
		break
	}
	_, err := m.From()
	is.Err(t, err, "Missing")
	_, err = m.Via()
	is.Err(t, err, "Missing")
	_, _, err = m.CSeq()
	is.Err(t, err, "CSeq")
	is.Equal(t, m.Get(HFrom), nil)
	is.Equal(t, m.GetName("X-None"), nil)
}

func TestResponses(t *testing.T) {
	req := parse(t, "INVITE sip:a@b SIP/2.0\nv: SIP/2.0/UDP h1,\n SIP/2.0/UDP h2\nRecord-Route: <sip:r;lr>\nMax-Forwards: 9\nf: <sip:f@b>;tag=1\nVia: SIP/2.0/UDP h3\n"+
		"t: <sip:a@b>\ni: c1\nCSeq: 1 INVITE\nTimestamp: 5\nl: 0\n\n")
	vias := "v: SIP/2.0/UDP h1,\n SIP/2.0/UDP h2\n"
	rest := "f: <sip:f@b>;tag=1\nVia: SIP/2.0/UDP h3\n"
	answer := func(code int, tag string) string {
		return strings.ReplaceAll(string(AppendResponse(nil, req, code, []byte(tag), nil)), "\r\n", "\n")
	}
	is.Equal(t, answer(100, "x"), "SIP/2.0 100 Trying\n"+vias+rest+"t: <sip:a@b>\ni: c1\nCSeq: 1 INVITE\nTimestamp: 5\nContent-Length: 0\n\n")
	is.Equal(t, answer(180, "x"), "SIP/2.0 180 Ringing\n"+vias+"Record-Route: <sip:r;lr>\n"+rest+"t: <sip:a@b>;tag=x\ni: c1\nCSeq: 1 INVITE\nContent-Length: 0\n\n")
	is.Equal(t, answer(486, "x"), "SIP/2.0 486 Busy Here\n"+vias+rest+"t: <sip:a@b>;tag=x\ni: c1\nCSeq: 1 INVITE\nContent-Length: 0\n\n")
	is.Equal(t, answer(486, ""), "SIP/2.0 486 Busy Here\n"+vias+rest+"t: <sip:a@b>\ni: c1\nCSeq: 1 INVITE\nContent-Length: 0\n\n")
	got := AppendReply(nil, req, Reply{Code: 200, Reason: "Fine", Extra: []byte("Content-Type: text/plain\r\n"), Body: []byte("hello")})
	var m Message
	is.NoErr(t, m.Parse(got))
	is.NoErr(t, m.Check())
	is.Equal(t, string(m.Body())+string(m.Reason()), "helloFine")
	for _, code := range []int{100, 183, 200, 302, 404, 503, 600} {
		r := req.NewResponse(code, "")
		is.Equal(t, r.StatusCode(), code)
		is.Equal(t, string(r.Reason()), ReasonOf(code))
		is.NoErr(t, r.Check())
		roundTrip(t, r)
		is.Equal(t, r.Has(HRecordRoute), code > 100 && code < 300)
		is.Equal(t, r.Has(HTimestamp), code == 100)
		is.Equal(t, len(collect(r, HVia)), 3)
		is.Equal(t, r.Method(), INVITE)
		is.Equal(t, string(r.MethodName()), "INVITE")
	}
	req.Set(HTo, []byte("<sip:a@b>;tag=own"))
	is.True(t, strings.Contains(answer(200, "x"), "To: <sip:a@b>;tag=own\n"), "a tag stays")
	is.Equal(t, string(req.NewResponse(200, "a\r\nb").Reason()), "a  b")
}

func TestNewRequest(t *testing.T) {
	m := NewRequest("MESSAGE", "sip:a@b")
	m.Prepend(HVia, []byte("SIP/2.0/UDP h;branch=z9hG4bK1"))
	m.Add(HFrom, []byte("<sip:f@b>;tag=1"))
	m.Add(HTo, []byte("<sip:a@b>"))
	m.Add(HCallID, []byte("c"))
	m.Add(HCSeq, []byte("1 MESSAGE"))
	m.SetBody("text/plain", []byte("hi"))
	is.NoErr(t, m.Check())
	roundTrip(t, m)
	is.Equal(t, text(m), "MESSAGE sip:a@b SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\nFrom: <sip:f@b>;tag=1\nTo: <sip:a@b>\nCall-ID: c\nCSeq: 1 MESSAGE\n"+
		"Content-Type: text/plain\nContent-Length: 2\n\nhi")
	is.Equal(t, len(m.Bytes()), 0)
	is.Equal(t, NewRequest("XYZ", "sip:a@b").Method(), Other)
}

func TestStatus(t *testing.T) {
	err := Status(503, "", "Retry-After: 5")
	is.Equal(t, err.Error(), "503 Service Unavailable")
	is.Equal(t, Status(403, "No").Error(), "403 No")
	var e *Error
	is.True(t, errors.As(fmt.Errorf("x: %w", err), &e), "wrapped")
	is.Equal(t, e.Headers, []string{"Retry-After: 5"})
	for _, code := range []int{199, 299, 399, 499, 599, 699, 150} {
		is.True(t, ReasonOf(code) != "", "a phrase for each")
	}
}

func TestFrame(t *testing.T) {
	one := strings.ReplaceAll("OPTIONS sip:a@b SIP/2.0\nX: content-length: 9\nContent-Length :\n 3\nY: l: 8\n\nabc", "\n", "\r\n")
	two := one + register
	for i := range one {
		n, err := Frame([]byte(one[:i]))
		is.True(t, n == 0 && err == nil, "not whole")
	}
	for i := len(one); i <= len(two); i++ {
		n, err := Frame([]byte(two[:i]))
		is.True(t, n == len(one) && err == nil, "the first")
	}
	n, err := Frame([]byte("\r\n\r\n" + one))
	is.True(t, n == len(one)+4 && err == nil, "behind keep-alives")
	n, err = Frame([]byte("\r\n\r\n"))
	is.True(t, n == 0 && err == nil, "keep-alives alone")
	for _, c := range []struct {
		text   string
		status int
		n      bool
	}{
		{"OPTIONS sip:a@b SIP/2.0\n\n", 400, true},
		{"OPTIONS sip:a@b SIP/2.0\nl: x\n\n", 400, true},
		{"OPTIONS sip:a@b SIP/2.0\nl: -1\n\n", 400, true},
		{"OPTIONS sip:a@b SIP/2.0\nl: \n\n", 400, true},
		{"OPTIONS sip:a@b SIP/2.0\nl 1\n\n", 400, true},
		{"OPTIONS sip:a@b SIP/2.0\nl: 1\nL: 1\n\n", 400, true},
		{"OPTIONS sip:a@b SIP/2.0\nl: 2000000\n\n", 413, true},
		{"OPTIONS sip:a@b SIP/2.0\nl: 99999999999999999999999\n\n", 400, true},
		{"\x16\x03\x01\x00", 400, false},
		{"OPTIONS " + strings.Repeat("a", MaxHeader), 513, false},
		{"OPTIONS " + strings.Repeat("a", MaxHeader) + "\n\n", 513, false},
	} {
		n, err := Frame([]byte(strings.ReplaceAll(c.text, "\n", "\r\n")))
		var e *Error
		is.True(t, errors.As(err, &e), "an *Error")
		is.Equal(t, e.Status, c.status, c.text[:min(60, len(c.text))])
		is.Equal(t, n > 0, c.n, c.text[:min(60, len(c.text))])
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(register), uint8(0))
	f.Add([]byte(invite), uint8(1))
	f.Add([]byte(ringing), uint8(2))
	for _, dir := range []string{"rfc4475", "rfc5118"} {
		files, err := filepath.Glob(filepath.Join("testdata", dir, "*.dat"))
		is.NoErr(f, err)
		for _, name := range files {
			f.Add(read(f, dir, filepath.Base(name)), uint8(0xff))
		}
	}
	f.Add([]byte(strings.ReplaceAll("OPTIONS sip:a@b SIP/2.0\nX: a\n \t\nY:\n \nv: SIP/2.0/UDP h\n ;rport, a\nl:\n 1\n\nrest", "\n", "\r\n")), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, edit uint8) {
		var m Message
		if err := m.Parse(bytes.Clone(b)); err != nil {
			var e *Error
			is.True(t, errors.As(err, &e), "an *Error")
			AppendResponse(nil, &m, 400, []byte("t"), nil)
			m.AppendTo(nil)
			return
		}
		checked := m.Check()
		before := string(m.Bytes())
		roundTrip(t, &m)
		c := m.Clone()
		is.Equal(t, listing(c), listing(&m), "clone")
		change(&m, edit)
		is.Equal(t, string(m.Bytes()), before, "received octets")
		roundTrip(t, &m)
		is.Equal(t, c.Check() == nil, checked == nil, "a clone's verdict")
		if checked == nil && c.IsRequest() {
			var r Message
			is.NoErr(t, r.Parse(AppendResponse(nil, c, 200, []byte("t"), nil)))
			is.NoErr(t, r.Check(), "the answer to what was right")
			is.Equal(t, string(r.CallID()), string(c.CallID()))
			is.Equal(t, collect(&r, HVia), collect(c, HVia))
		}
	})
}

// change edits m in one of several ways.
func change(m *Message, edit uint8) {
	for i, do := range []func(){
		func() { m.Flow.Remote = remote; m.StampVia() },
		func() { m.PopFirst(HVia) },
		func() { m.Prepend(HVia, []byte("SIP/2.0/UDP x")) },
		func() { m.Remove(HRoute); m.SetName("X", []byte("y")) },
		func() { m.SetRequestURI([]byte("sip:n@o")); m.Set(HVia, []byte("x")) },
		func() { m.SetBody("a/b", []byte("c")) },
		func() { m.ReplaceFirst(HContact, []byte("<sip:x>")); m.RemoveName("y") },
		func() { m.Remove(HContentLength) },
	} {
		if edit&(1<<i) != 0 {
			do()
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte(register + invite))
	f.Add([]byte("OPTIONS sip:a@b SIP/2.0\r\nContent-Length :\r\n 3\r\n\r\nabc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Frame(b)
		is.True(t, n >= 0 && (err != nil || n <= len(b)), "within")
		if err != nil || n == 0 {
			return
		}
		again, err := Frame(b[:n])
		is.True(t, again == n && err == nil, "the same alone")
		var m Message
		if m.Parse(slices.Clone(b[:n])) == nil {
			is.Equal(t, len(m.Bytes()), n, "parser and framer agree")
		}
	})
}
