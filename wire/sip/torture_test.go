package sip

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fernamt/test/is"
)

// verdict is what Parse and Check say: status 0 is accept.
type verdict struct {
	file   string
	status int
	drop   bool
	reason string // why
}

// torture has one line for each message of RFC 4475.
var torture = []verdict{
	{"wsinv", 0, false, "ugly but legal: folding, compact names, blanks everywhere"},
	{"intmeth", 0, false, "each token octet in the method; user part with ?/;: in it"},
	{"esc01", 0, false, "escapes in user and parameter names"},
	{"escnull", 0, false, "%00 in user parts is an octet like others"},
	{"esc02", 0, false, "RE%47IST%45R is an unknown method, not REGISTER"},
	{"lwsdisp", 0, false, "no blank between display name and <"},
	{"longreq", 0, false, "within the limits"},
	{"dblreq", 0, false, "octets behind Content-Length are ignored"},
	{"semiuri", 0, false, "semicolon belongs to the user"},
	{"transports", 0, false, "only the topmost Via is looked into"},
	{"mpart01", 0, false, "binary body"},
	{"unreason", 0, false, "UTF-8 in the reason phrase"},
	{"noreason", 0, false, "empty reason phrase"},
	{"badinv01", 400, false, "empty parameters and elements in Via"},
	{"clerr", 400, false, "Content-Length beyond the datagram"},
	{"ncl", 400, false, "negative Content-Length"},
	{"scalar02", 400, false, "CSeq beyond 2^31-1"},
	{"scalarlg", 400, true, "response with CSeq beyond 2^31-1"},
	{"quotbal", 400, false, "quote without end in To"},
	{"ltgtruri", 400, false, "Request-URI in angle brackets"},
	{"lwsruri", 400, false, "blank in the Request-URI"},
	{"lwsstart", 400, false, "two blanks in the request line"},
	{"trws", 400, false, "blanks behind the version"},
	{"escruri", 400, false, "headers in the Request-URI"},
	{"baddate", 400, false, "Date not in GMT"},
	{"regbadct", 400, false, "question mark in a Contact without brackets"},
	{"badaspec", 400, false, "blanks within angle brackets"},
	{"baddn", 400, false, "comma in an unquoted display name"},
	{"badvers", 505, false, "SIP/7.0"},
	{"mismatch01", 400, false, "CSeq with another method"},
	{"mismatch02", 400, false, "CSeq with another method than an unknown one"},
	{"bigcode", 400, true, "status code of ten digits"},
	{"badbranch", 400, false, "branch is the cookie alone"},
	{"insuf", 400, false, "Call-ID, From and To are missing"},
	{"unkscm", 0, false, "416 is the role's"},
	{"novelsc", 0, false, "416 is the role's"},
	{"unksm2", 0, false, "schemes of To, From and Contact are the registrar's"},
	{"bext01", 0, false, "420 is the role's"},
	{"invut", 0, false, "415 is the role's"},
	{"regaut01", 0, false, "401 is the role's"},
	{"multi01", 400, false, "From, To, Call-ID and CSeq twice"},
	{"mcl01", 400, false, "Content-Length twice"},
	{"bcast", 0, false, "where not to send is the transport's"},
	{"zeromf", 0, false, "483 is the proxy's"},
	{"cparam01", 0, false, "unknown Contact parameter"},
	{"cparam02", 0, false, "unknown URI parameter"},
	{"regescrt", 0, false, "headers in a Contact URI are legal"},
	{"sdp01", 0, false, "406 is the role's"},
	{"inv2543", 0, false, "no cookie, no tags"},
}

// tortureSix has one line for each message of RFC 5118.
var tortureSix = []verdict{
	{"ipv6-good", 0, false, "reference in the Request-URI"},
	{"ipv6-bad", 400, false, "address without brackets"},
	{"port-ambiguous", 0, false, "5070 is part of the address"},
	{"port-unambiguous", 0, false, "5070 is the port"},
	{"via-received-param-with-delim", 0, false, "received with brackets"},
	{"via-received-param-no-delim", 0, false, "received without brackets"},
	{"ipv6-in-sdp", 0, false, ""},
	{"mult-ip-in-header", 0, false, "both families in Via"},
	{"mult-ip-in-sdp", 0, false, ""},
	{"ipv4-mapped-ipv6", 0, false, ""},
	{"ipv6-bug-abnf-3-colons", 0, false, "three colons are read as two"},
	{"ipv6-correct-abnf-2-colons", 0, false, ""},
}

// read gives a file of testdata.
func read(t testing.TB, parts ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, parts...)...))
	is.NoErr(t, err)
	return b
}

func TestTorture(t *testing.T) {
	for _, c := range []struct {
		dir   string
		table []verdict
	}{{"rfc4475", torture}, {"rfc5118", tortureSix}} {
		files, err := filepath.Glob(filepath.Join("testdata", c.dir, "*.dat"))
		is.NoErr(t, err)
		is.Equal(t, len(c.table), len(files), c.dir)
		for _, v := range c.table {
			t.Run(v.file, func(t *testing.T) {
				var m Message
				b := read(t, c.dir, v.file+".dat")
				err := m.Parse(b)
				if err == nil {
					err = m.Check()
				}
				if v.status == 0 {
					is.NoErr(t, err, v.reason)
					roundTrip(t, &m)
					return
				}
				var e *Error
				is.True(t, errors.As(err, &e), "no error:", v.reason)
				if e != nil {
					is.Equal(t, e.Status, v.status, v.reason)
					is.Equal(t, e.Drop, v.drop, v.reason)
					t.Log(e)
				}
			})
		}
	}
}

// roundTrip writes m, parses that, and compares each part; a second writing must be equal.
func roundTrip(t testing.TB, m *Message) {
	t.Helper()
	out := m.AppendTo(nil)
	var again Message
	is.NoErr(t, again.Parse(bytes.Clone(out)), "parse what was written")
	is.Equal(t, string(again.AppendTo(nil)), string(out), "second writing")
	is.Equal(t, again.StatusCode(), m.StatusCode())
	is.Equal(t, string(again.Reason()), string(m.Reason()))
	if m.IsRequest() {
		is.Equal(t, string(again.MethodName()), string(m.MethodName()))
		is.Equal(t, string(again.RequestURI()), string(m.RequestURI()))
	}
	is.Equal(t, string(again.Body()), string(m.Body()), "body")
	is.Equal(t, listing(&again), listing(m), "fields")
}

// listing gives all fields but Content-Length, which is written right.
func listing(m *Message) string {
	var s strings.Builder
	for n, v := range m.Fields() {
		if HeaderOf(n) != HContentLength {
			s.WriteString(string(n) + ": " + string(v) + "\n")
		}
	}
	return s.String()
}
