package ports

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"fernamt/test/is"
)

func good(name string, n int, protocol string) Port {
	return Port{Name: name, From: n, Transport: TCP, Protocol: protocol, Purpose: "a purpose", Zweck: "ein Zweck"}
}

func with(p Port, f func(*Port)) Port { f(&p); return p }

func TestCheck(t *testing.T) {
	sip := good("frontend/sip", 5060, "sip")
	tls := func(p *Port) { p.TLS = Server }
	udp := func(p *Port) { p.Transport = UDP }
	media := with(good("edge/relay", 50000, "rtp"), func(p *Port) { p.To, p.Use, p.Transport = 59999, Draw, UDP })
	web := with(good("webaccess/https", 443, "https"), tls)
	for _, c := range []struct {
		name string
		list []Port
		want string // part of the error, "" for none
	}{
		{"one door", []Port{sip}, ""},
		{"name without role", []Port{good("sip", 5060, "sip")}, "role/door"},
		{"number 0", []Port{good("a/b", 0, "sip")}, "1 to 65535"},
		{"number 65536", []Port{good("a/b", 65536, "sip")}, "1 to 65535"},
		{"range upside down", []Port{with(media, func(p *Port) { p.To = 40000 })}, "the smaller first"},
		{"listening range", []Port{with(sip, func(p *Port) { p.To = 5070 })}, "one number"},
		{"tcp drawn", []Port{with(media, func(p *Port) { p.Transport = TCP })}, "only udp"},
		{"tls over udp", []Port{with(sip, func(p *Port) { p.Transport, p.TLS = UDP, Server })}, "TLS needs tcp"},
		{"no German", []Port{with(sip, func(p *Port) { p.Zweck = "" })}, "English or German"},
		{"no such row", []Port{with(sip, func(p *Port) { p.Seed = []string{"R74"} })}, `no row "R74"`},
		{"row misspelt", []Port{with(sip, func(p *Port) { p.Seed = []string{"R1"} })}, `no row "R1"`},
		{"no transport", []Port{with(sip, func(p *Port) { p.Transport = 0 })}, "UDP or TCP"},
		{"twice", []Port{sip, sip}, "declared twice"},
		{"udp and tcp", []Port{sip, with(good("frontend/sip-udp", 5060, "sip"), udp)}, ""},
		{"sip of two roles", []Port{sip, good("director/sip", 5060, "sip")}, ""},
		{"sip of two roles on udp", []Port{with(sip, udp), with(good("director/sip", 5060, "sip"), udp)}, ""},
		{"udp of two protocols", []Port{with(sip, udp), with(good("edge/turn", 5060, "turn"), udp)}, "one protocol"},
		{"443 shared by three", []Port{web, with(good("edge/sips", 443, "sips"), tls), with(good("edge/turn", 443, "turns"), tls)}, ""},
		{"two https", []Port{web, with(good("proxy/https", 443, "https"), tls)}, "webaccess/https (tcp 443) and proxy/https (tcp 443) clash"},
		{"two https with names", []Port{
			with(web, func(p *Port) { p.Names = []string{"im.example.test"} }),
			with(good("proxy/https", 443, "https"), func(p *Port) { p.TLS, p.Names = Server, []string{"web.example.test"} }),
		}, ""},
		{"two https with one name", []Port{
			with(web, func(p *Port) { p.Names = []string{"im.example.test"} }),
			with(good("proxy/https", 443, "https"), func(p *Port) { p.TLS, p.Names = Server, []string{"IM.example.test"} }),
		}, "clash"},
		{"http and https", []Port{good("webaccess/http", 443, "http"), web}, ""},
		{"nobody knows it", []Port{good("manage/remote", 5060, "manage"), sip}, "do not tell"},
		{"two sides", []Port{web, with(good("proxy/https", 443, "https"), func(p *Port) { p.TLS, p.Side = Server, External })}, ""},
		{"fixed inside a range", []Port{media, with(good("host/x", 50500, "http"), tls)}, "host/x (tcp 50500) stands inside the range of edge/relay (udp 50000-59999)"},
		{"fixed at the range's end", []Port{good("host/x", 59999, "http"), media}, "stands inside"},
		{"ranges overlap", []Port{media, with(media, func(p *Port) { p.Name = "avconf/media" })}, ""},
		{"dialled ones share", []Port{
			with(good("a/dns", 53, "dns"), func(p *Port) { p.Use = Dial }), with(good("b/dns", 53, "dns"), func(p *Port) { p.Use = Dial }),
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := Check(c.list); c.want == "" {
				is.NoErr(t, err)
			} else {
				is.Err(t, err, c.want)
			}
		})
	}
}

func TestTable(t *testing.T) {
	p := with(good("frontend/sips", 5061, "sips"), func(p *Port) {
		p.TLS, p.Seed, p.Purpose, p.Spec = Server, []string{"R01", "R62"}, "SIP | TLS", "RFC 3261 §18"
	})
	for _, c := range []struct{ format, lang, want string }{
		{"text", "en", "DOOR           NUMBER  TRANSPORT  PROTOCOL  TLS     SIDE      USE     SEED     PURPOSE    SPEC\n" +
			"frontend/sips  5061    tcp        sips      server  internal  listen  R01 R62  SIP | TLS  RFC 3261 §18\n"},
		{"tsv", "de", "Tür\tNummer\tTransport\tProtokoll\tTLS\tSeite\tArt\tUrtabelle\tZweck\tNorm\n" +
			"frontend/sips\t5061\ttcp\tsips\tServer\tinnen\tlauscht\tR01 R62\tein Zweck\tRFC 3261 §18\n"},
		{"md", "en", `| frontend/sips | 5061 | tcp | sips | server | internal | listen | R01 R62 | SIP \| TLS | RFC 3261 §18 |`},
		{"json", "en", `"door": "frontend/sips"`},
	} {
		var b bytes.Buffer
		is.NoErr(t, TableOf([]Port{p}, c.lang).Write(&b, c.format))
		is.True(t, strings.Contains(b.String(), c.want), c.format, c.lang, "gives", b.String())
	}
	is.Err(t, TableOf(nil, "en").Write(&bytes.Buffer{}, "xml"), "text, md, tsv, json")
}

func TestSeed(t *testing.T) {
	rows, err := Seed()
	is.NoErr(t, err)
	is.Equal(t, len(rows), 73)
	is.Equal(t, rows[16].Ports, "49152-65335", "the slip stays in the copy")
	_, err = ParseSeed(strings.Replace(seedTable, "R07", "R70", 1))
	is.Err(t, err, "want R07")
	_, err = ParseSeed("id\nR01\tx")
	is.Err(t, err, "want 8")
}

func TestAnswers(t *testing.T) {
	plans, err := Plans()
	is.NoErr(t, err)
	none := func(string) bool { return false }
	as, err := Answers(nil, none)
	is.NoErr(t, err)
	for i, a := range as {
		is.Equal(t, a.Status, NotYet, a.ID, "without a door")
		is.Equal(t, a.Role, plans[i].Role)
	}
	// What the seed's slips are stands in the notes, in both languages.
	for id, part := range map[string][2]string{
		"R14": {"mistranslation", "Lautstärkeregelung"}, "R15": {"listen", "Abspielen"}, "R17": {"65535", "Schreibfehler"},
		"R34": {"names no protocol", "kein Protokoll"}, "R35": {"not a listener", "kein lauschender"}, "R39": {"5041", "5041"},
		"R40": {"RCP", "RCP"}, "R41": {"RCP", "RCP"}, "R47": {"HTTPS", "HTTPS"}, "R49": {"IM", "IM"}, "R56": {"A/V", "A/V"},
		"R60": {"UDP", "UDP"}, "R53": {"Outbound TCP alone", "Ausgehendes TCP allein"}, "R62": {"MTLS", "MTLS"}, "R68": {"R49", "R49"},
		"R06": {"mutual TLS", "beidseitigem TLS"}, "R13": {"mutual TLS", "beidseitigem TLS"}, "R23": {"R10", "R10"},
		"R18": {"leaves out 80", "lässt 80"}, "R01": {"in clear", "im Klartext"}, "R27": {"voice", "Sprachsteuerung"},
	} {
		for _, a := range as {
			if a.ID == id {
				is.True(t, strings.Contains(a.Note, part[0]), id, "note", a.Note)
				is.True(t, strings.Contains(a.NoteDE, part[1]), id, "Anmerkung", a.NoteDE)
			}
		}
	}
}

func TestStatus(t *testing.T) {
	lines := strings.Split(answersTable, "\n")
	fields := strings.Split(lines[1], "\t")
	answer := func(tests, proof string, claimed bool, record string) string {
		f := append([]string(nil), fields...)
		f[3], f[4] = tests, proof
		table := strings.Join(append([]string{lines[0], strings.Join(f, "\t")}, lines[2:]...), "\n")
		plans, err := parsePlans(table)
		is.NoErr(t, err)
		var doors []Port
		if claimed {
			doors = []Port{with(good("frontend/sip", 5060, "sip"), func(p *Port) { p.Seed = []string{"R01"} })}
		}
		return answers(plans, doors, ParseProof(record).Passed)[0].Status
	}
	for _, c := range []struct {
		name, tests, proof string
		claimed            bool
		record, want       string
	}{
		{"no test", "", "all", true, "", NotYet},
		{"all passed", "a.TestA a.TestB", "all", true, "a.TestA\tpass\na.TestB\tpass\n", Works},
		{"part", "a.TestA", "part", true, "a.TestA\tpass\n", Partly},
		{"one failed", "a.TestA a.TestB", "all", true, "a.TestA\tpass\na.TestB\tfail\n", NotYet},
		{"skipped", "a.TestA", "all", true, "a.TestA\tskip\n", NotYet},
		{"never ran", "a.TestA", "all", true, "", NotYet},
		{"no door", "a.TestA", "all", false, "a.TestA\tpass\n", NotYet},
	} {
		is.Equal(t, answer(c.tests, c.proof, c.claimed, c.record), c.want, c.name)
	}
}

func TestReadRun(t *testing.T) {
	run := `# fernamt/broken
{"Action":"run","Package":"fernamt/test/interop","Test":"TestA"}
{"Action":"pass","Package":"fernamt/test/interop","Test":"TestA"}
{"Action":"pass","Package":"fernamt/test/interop","Test":"TestA/tls"}
{"Action":"skip","Package":"fernamt/test/interop","Test":"TestB"}
{"Action":"fail","Package":"fernamt/test/interop","Test":"TestC"}
{"Action":"pass","Package":"fernamt/test/interop","Test":"TestC"}
{"Action":"pass","Package":"fernamt/test/interop","Test":"TestUnnamed"}
{"Action":"pass","Package":"fernamt/test/interop"}
`
	in := func(s string) string { return "test/interop." + s }
	got, err := ReadRun(strings.NewReader(run), "fernamt/", []string{in("TestA"), in("TestA/tls"), in("TestB"), in("TestC"), in("TestD")})
	is.NoErr(t, err)
	is.Equal(t, got, Proof{in("TestA"): "pass", in("TestA/tls"): "pass", in("TestB"): "skip", in("TestC"): "fail", in("TestD"): "none"})
	is.Equal(t, ParseProof(got.String()), got, "write and read")
}

func TestAnswersJSON(t *testing.T) {
	as, err := Answers(nil, Recorded().Passed)
	is.NoErr(t, err)
	table, err := TableOfAnswers(as, "de")
	is.NoErr(t, err)
	var b bytes.Buffer
	is.NoErr(t, table.Write(&b, "json"))
	var got struct {
		Rows []struct{ ID, Status, Role, Test, Note string }
	}
	is.NoErr(t, json.Unmarshal(b.Bytes(), &got))
	is.Equal(t, len(got.Rows), 73)
	is.Equal(t, got.Rows[16].Status, "not yet")
	is.True(t, strings.Contains(got.Rows[16].Note, "Schreibfehler"), got.Rows[16].Note)
	is.Equal(t, Count(as, "de"), "0 geht, 0 teilweise, 73 noch nicht")
}
