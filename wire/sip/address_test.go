package sip

import (
	"testing"

	"fernamt/test/is"
)

func TestAddress(t *testing.T) {
	for _, c := range []struct{ in, display, uri, tag string }{
		{"sip:a@b", "", "sip:a@b", ""},
		{"sip:a@b ; x ; tag = t1", "", "sip:a@b", "t1"},
		{"sip:a@b;x=\"<;\";tag=t", "", "sip:a@b", "t"},
		{"<sip:a@b;lr?x=y>;tag=t", "", "sip:a@b;lr?x=y", "t"},
		{`"Mr. \"X\" <,;>" <sip:a@b>;TAG=t;q=0.5`, `Mr. \"X\" <,;>`, "sip:a@b", "t"},
		{"A. Bell<sip:a@b>", "A. Bell", "sip:a@b", ""},
		{"Bob (work) <sip:a@b>", "Bob (work)", "sip:a@b", ""},
		{"Jürgen <sip:a@b>", "Jürgen", "sip:a@b", ""},
		{"<http://www.example.com>;tag=1", "", "http://www.example.com", "1"},
		{"isbn:2983792873", "", "isbn:2983792873", ""},
		{"*", "", "*", ""},
	} {
		a, err := ParseAddress([]byte(c.in))
		is.NoErr(t, err, c.in)
		is.Equal(t, string(a.Display), c.display, c.in)
		is.Equal(t, string(a.RawURI), c.uri, c.in)
		is.Equal(t, string(a.Tag()), c.tag, c.in)
		v, _ := Param(paramsOf([]byte(c.in)), "tag")
		is.Equal(t, string(v), c.tag, "the fast way", c.in)
	}
	for _, s := range []string{
		"", " ", "<", "<sip:a@b", "< sip:a@b>", "<sip:a@b >", `"a" sip:a@b`, `"a <sip:a@b>`, "Bell, A <sip:a@b>", "sip:a@b?x=y", "sip:a,b@c",
		"<sip:a@b>;;", "<sip:a@b>;", "<sip:a@b> x", "<sip:a@b>;a=b c", "<sip:a@b>;a=\"b", "<sip:a@b>,<sip:c@d>", "**", "a", "<>", `<sip:a@b>;x="a"b`,
	} {
		if _, err := ParseAddress([]byte(s)); err == nil {
			t.Errorf("%q is no error", s)
		}
	}
}

func TestParams(t *testing.T) {
	p := []byte(`;+sip.instance="<urn:uuid:1>";methods="INVITE, BYE" ; Q = 0.5;ob;quote="a\"b";empty=`)
	for _, c := range []struct {
		name, want string
		ok         bool
	}{
		{"+sip.instance", "<urn:uuid:1>", true}, {"methods", "INVITE, BYE", true}, {"q", "0.5", true}, {"ob", "", true},
		{"quote", `a\"b`, true}, {"empty", "", true}, {"none", "", false},
	} {
		v, ok := Param(p, c.name)
		is.Equal(t, ok, c.ok, c.name)
		is.Equal(t, string(v), c.want, c.name)
	}
	is.Equal(t, string(Unquote([]byte(`"a\"b\\"`))), `a"b\`)
	is.Equal(t, string(Unquote([]byte(`ab`))), `ab`)
	is.Equal(t, string(AppendQuoted(nil, "a\"b\\\r\n")), `"a\"b\\  "`)
}

func FuzzAddress(f *testing.F) {
	f.Add([]byte(`"Mr. \"X\" <,;>" <sip:a@b;lr>;TAG=t;q=0.5`))
	f.Add([]byte("sip:a@b ; x ; tag = t1"))
	f.Add([]byte("Jürgen M. <sips:a@[::1]:5061>"))
	f.Add([]byte("*"))
	f.Fuzz(func(t *testing.T, b []byte) {
		Unquote(b)
		paramsOf(b)
		a, err := ParseAddress(b)
		if err != nil {
			return
		}
		text := a.AppendTo(nil)
		again, err := ParseAddress(text)
		is.NoErr(t, err, string(text))
		is.Equal(t, string(again.RawURI), string(a.RawURI))
		is.Equal(t, string(again.Display), string(a.Display))
		is.Equal(t, string(again.Tag()), string(a.Tag()))
		if e, _, more := nextElement(text); more || string(e) != string(trim(text)) {
			t.Errorf("%q is cut at a comma", text)
		}
	})
}
