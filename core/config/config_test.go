package config

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"fernamt/test/is"
)

type frontend struct {
	Trusted     []Net         `doc:"Addresses whose requests count as authenticated"`
	MaxBindings int           `doc:"Bindings per user"`
	MinExpires  time.Duration `doc:"Shortest registration"`
	state       int
}

func (f *frontend) Check() error {
	if f.MaxBindings < 1 || f.MaxBindings > 64 {
		return &KeyError{"max_bindings", errors.New("must be from 1 to 64")}
	}
	return nil
}

type edge struct {
	AllowPeers []Net `doc:"TURN peers let through although they are on the deny list"`
}

func roles() map[string]any {
	return map[string]any{"frontend": &frontend{MaxBindings: 8, MinExpires: time.Minute, state: 1}, "edge": &edge{}}
}

const good = `domains = ["example.test"]

[storage]
dsn = "postgres://fernamt@127.0.0.1:5432/fernamt"
password = "file:pg.password"

[frontend]
trusted = ["127.0.0.1", "10.0.0.0/8"]
min_expires = "90s"

[[host]]
name = "a.example.test"
roles = ["frontend"]
internal = ["127.0.0.1", "::1"]
addresses = {"frontend/sip" = ["127.0.0.2"]}

[[host]]
name = "b.example.test"
roles = ["edge"]
internal = ["127.0.1.2"]
external = ["192.0.2.1"]
`

func TestGood(t *testing.T) {
	s, err := Parse("fernamt.toml", []byte(good), roles())
	is.NoErr(t, err)
	f := s.Roles["frontend"].(*frontend)
	is.Equal(t, f.MinExpires, 90*time.Second)
	is.Equal(t, f.MaxBindings, 8)
	is.Equal(t, f.state, 1)
	is.Equal(t, len(f.Trusted), 2)
	is.True(t, Contains(f.Trusted, s.Hosts[0].Internal[0]), "trusted")
	is.True(t, !Contains(f.Trusted, s.Hosts[0].Internal[1]), "not trusted")
	is.Equal(t, s.Hosts[0].Addresses["frontend/sip"][0].String(), "127.0.0.2")
	is.Equal(t, s.Hosts[1].Loopback[0].String(), "127.0.0.1")
	is.Equal(t, len(s.Playing("edge")), 1)
	is.Equal(t, s.Line("host[1].external"), 21)

	h, err := s.Pick("", "b")
	is.NoErr(t, err)
	is.Equal(t, h.Name, "b.example.test")
	h, err = s.Pick("A.EXAMPLE.TEST", "b")
	is.NoErr(t, err)
	is.Equal(t, h.Name, "a.example.test")
	_, err = s.Pick("c", "b")
	is.Err(t, err, "known: a.example.test, b.example.test")
	_, err = s.Pick("", "nobody")
	is.Err(t, err, "--host")
}

// TestErrors holds one slip per row: what is changed in the good file, and what the
// error says: file, line, key and what is allowed.
func TestErrors(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{`trusted =`, `trusetd =`, `f.toml:8: frontend.trusetd: unknown key; did you mean trusted? (allowed: max_bindings, min_expires, trusted)`},
		{`[frontend]`, `[frontent]`, `f.toml:7: frontent: unknown key; did you mean frontend?`},
		{`external =`, `extrenal =`, `f.toml:21: host.extrenal: unknown key; did you mean external?`},
		{`min_expires = "90s"`, `min_expires = 90`, `f.toml:9: frontend.min_expires: must be a duration with its unit`},
		{`min_expires = "90s"`, `min_expires = "soon"`, `f.toml:9: frontend.min_expires: must be a duration such as`},
		{`min_expires = "90s"`, `max_bindings = 65`, `f.toml:9: frontend.max_bindings: must be from 1 to 64`},
		{`min_expires = "90s"`, `max_bindings = "many"`, `f.toml:9: frontend.max_bindings: must be a whole number`},
		{`"10.0.0.0/8"`, `"ten"`, `f.toml:8: frontend.trusted: must be an address or a network`},
		{`"10.0.0.0/8"]`, `3]`, `f.toml:8: frontend.trusted`},
		{`["127.0.0.1", "10.0.0.0/8"]`, `"127.0.0.1"`, `f.toml:8: frontend.trusted: must be a list`},
		{`"file:pg.password"`, `"hunter2"`, `f.toml:5: storage.password: must be file:NAME`},
		{`fernamt@127`, `fernamt:hunter2@127`, `f.toml:4: storage.dsn: holds a password`},
		{`postgres://`, `mysql://`, `f.toml:4: storage.dsn: must be as postgres://`},
		{`domains = ["example.test"]`, ``, `f.toml: domains: missing`},
		{`"example.test"]`, `"exa mple"]`, `f.toml:1: domains: "exa mple" is not a name as in DNS`},
		{`["edge"]`, `["egde"]`, `f.toml:19: host[1].roles: there is no role egde; did you mean edge? (allowed: edge, frontend)`},
		{`["edge"]`, `["edge", "edge"]`, `f.toml:19: host[1].roles: edge is there twice`},
		{`b.example.test`, `a.example.test`, `f.toml:18: host[1].name: a.example.test is there twice`},
		{`internal = ["127.0.1.2"]`, `loopback = ["192.0.2.7"]`, `f.toml:20: host[1].loopback: 192.0.2.7 is not a loopback address`},
		{`["127.0.0.1", "::1"]`, `["127.0.0.one"]`, `f.toml:14: host.internal`},
		{`[storage]`, `[storage`, `f.toml:3`},
		{`roles = ["edge"]`, "roles = [\"edge\"]\npool = \"p\"", `f.toml:20: host[1].pool: there is no [[pool]] p`},
		{`[storage]`, "[limits]\nmessage_body = 3\n[storage]", `f.toml:4: limits.message_body: must be from 4096 to 67108864`},
		{`[storage]`, "[limits]\nban_time = 3\n[storage]", `f.toml:4: limits.ban_time: must be a duration with its unit`},
		{`[storage]`, "[log]\nlevel = \"loud\"\n[storage]", `f.toml:4: log.level: must be debug, info, warn or error`},
		{`[storage]`, "[dns]\nservers = [\"ns\"]\n[storage]", `f.toml:4: dns.servers: "ns" must be ADDRESS`},
		{`[storage]`, "[hep]\ntarget = \"192.0.2.1\"\n[storage]", `f.toml:4: hep.target: "192.0.2.1" must be ADDRESS:PORT`},
		{`[storage]`, "[[certificate]]\ncert = \"x.pem\"\n[storage]", `certificate[0].key: missing`},
	} {
		src := strings.Replace(good, c.old, c.new, 1)
		is.True(t, src != good, "row changes nothing: "+c.old)
		_, err := Parse("f.toml", []byte(src), roles())
		is.Err(t, err, c.want)
		if err != nil {
			is.True(t, !strings.Contains(err.Error(), "hunter2"), "secret in "+err.Error())
			var e *Error
			is.True(t, errors.As(err, &e), "type of "+err.Error())
		}
	}
	_, err := Load("/nonexistent/fernamt.toml", roles())
	is.Err(t, err, "quickstart")
}

// TestDescribe reads back what Describe writes.
func TestDescribe(t *testing.T) {
	var b bytes.Buffer
	is.NoErr(t, Describe(&b, roles()))
	for _, part := range []string{"[frontend]\n", "max_bindings = 8\n", "min_expires = \"1m\"\n", "# Bindings per user\n",
		"#[[certificate]]\n", "[[host]]\n", "[[pool]]\n", "level = \"info\"\n", "ban_time = \"10m\"\n"} {
		is.True(t, strings.Contains(b.String(), part), "lacks "+part+" in\n"+b.String())
	}
	s, err := Parse("described.toml", b.Bytes(), roles())
	is.NoErr(t, err, b.String())
	is.Equal(t, s.Limits, Defaults().Limits)
	is.Equal(t, s.Roles["frontend"].(*frontend).MaxBindings, 8)
}

// TestWrite reads back what Write writes.
func TestWrite(t *testing.T) {
	s, err := Parse("f.toml", []byte(good), roles())
	is.NoErr(t, err)
	var b bytes.Buffer
	is.NoErr(t, s.Write(&b))
	again, err := Parse("f.toml", b.Bytes(), roles())
	is.NoErr(t, err, b.String())
	is.Equal(t, again.Hosts, s.Hosts)
	is.Equal(t, again.Storage, s.Storage)
	is.Equal(t, again.Roles["frontend"].(*frontend).Trusted, s.Roles["frontend"].(*frontend).Trusted)
	is.True(t, !strings.Contains(b.String(), "[limits]"), "defaults written")
}

func TestNearest(t *testing.T) {
	for _, c := range []struct{ word, want string }{
		{"strat", "start"}, {"quickstar", "quickstart"}, {"usr add", "user add"}, {"zebra", ""},
	} {
		is.Equal(t, Nearest(c.word, []string{"start", "quickstart", "user add", "lab"}), c.want)
	}
}
