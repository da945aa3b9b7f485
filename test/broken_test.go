package test

import (
	"fmt"
	"strings"
	"testing"
)

// A broken tree breaks one rule; want is part of the complaint.
type brokenTree struct{ rule, want, files string }

// good is a small house that keeps every rule.
const good = `
-- go.mod --
module fernamt
require github.com/miekg/dns v1.1.0
require github.com/jackc/pgx/v5 v5.0.0
require golang.org/x/sys v0.1.0
-- main.go --
// Fernamt answers the telephone.
package main
import "fernamt/core/host"
func main() { host.Run() }
-- wire/sip/sip.go --
// Package sip knows messages: RFC 3261 §7, [MS-SIPAE] §3.1 and RFC 3263.
package sip
// Seed: R49 Edge 5062
// Parse reads.
func Parse() {}
-- core/listen/listen.go --
// Package listen opens doors.
package listen
import "net"
// Open opens.
func Open() { net.Listen("tcp", ":0") }
-- core/host/host.go --
// Package host runs roles.
package host
import ("fernamt/core/listen"; "log/slog")
// Run runs.
func Run() { listen.Open(); slog.Info("up") }
-- role/frontend/frontend.go --
// Package frontend serves.
package frontend
type role struct { Trusted []string ` + "`" + `toml:"trusted" doc:"who is trusted"` + "`" + ` }
-- wire/sip/sip_test.go --
package sip
`

// untar reads "-- name --" sections; in a body, @N:text@ stands for N times text.
func untar(s string) map[string]string {
	files := map[string]string{}
	for part := range strings.SplitSeq("\n"+s, "\n-- ") {
		name, body, ok := strings.Cut(part, " --\n")
		if !ok {
			continue
		}
		for {
			before, rest, ok := strings.Cut(body, "@")
			spec, after, ok2 := strings.Cut(rest, "@")
			var n int
			if _, err := fmt.Sscanf(spec, "%d:", &n); !ok || !ok2 || err != nil {
				break
			}
			_, text, _ := strings.Cut(spec, ":")
			body = before + strings.Repeat(strings.ReplaceAll(text, `\n`, "\n"), n) + after
		}
		files[name] = body
	}
	return files
}

func TestGoodTreeKeepsEveryRule(t *testing.T) {
	s := newSource(untar(good))
	for _, r := range rules() {
		for _, c := range r.check(s) {
			t.Errorf("%s: %s", r.name, c)
		}
	}
}

// TestEveryRuleCanFail adds one fault at a time to the good tree: the rule must
// complain, and a rule without a fault here is itself a fault.
func TestEveryRuleCanFail(t *testing.T) {
	byName := map[string]func(*source) []string{}
	for _, r := range rules() {
		byName[r.name] = r.check
	}
	shown := map[string]bool{}
	for _, b := range append(brokenLayers(), brokenWords()...) {
		shown[b.rule] = true
		t.Run(strings.ReplaceAll(b.rule+"/"+b.want, " ", "_"), func(t *testing.T) {
			check := byName[b.rule]
			if check == nil {
				t.Fatalf("no rule is called %q", b.rule)
			}
			files := untar(good)
			for name, text := range untar(b.files) {
				files[name] = text
			}
			got := strings.Join(check(newSource(files)), "\n")
			if !strings.Contains(got, b.want) {
				t.Errorf("complaints %q, want one with %q", got, b.want)
			}
		})
	}
	for _, r := range rules() {
		if !shown[r.name] {
			t.Errorf("nothing shows that the rule %q can fail", r.name)
		}
	}
}

func brokenLayers() []brokenTree {
	return []brokenTree{
		{"parses", "wire/sip/b.go", "-- wire/sip/b.go --\npackage sip\nfunc {"},
		{"layers", "wire may not import core/listen", "-- wire/sip/b.go --\npackage sip\nimport _ \"fernamt/core/listen\"\n"},
		{"layers", "core may not import role", "-- core/host/b.go --\npackage host\nimport _ \"fernamt/role/frontend\"\n"},
		{"layers", "client may not import core", "-- client/b.go --\n// Package client\npackage client\nimport _ \"fernamt/core/host\"\n"},
		{"layers", "a role imports the role", "-- role/director/b.go --\npackage director\nimport _ \"fernamt/role/frontend\"\n"},
		{"layers", "shipped code imports test/is", "-- wire/sip/b.go --\npackage sip\nimport _ \"fernamt/test/is\"\n"},
		{"order of core", "core/listen stands left of core/host", "-- core/listen/b.go --\npackage listen\nimport _ \"fernamt/core/host\"\n"},
		{"known packages", "core/magic is not in the tree", "-- core/magic/b.go --\n// Package magic\npackage magic\n"},
		{"depth", "wire/sip/deep/b.go", "-- wire/sip/deep/b.go --\npackage deep\n"},
		{"depth", "lib/b.go", "-- lib/b.go --\npackage lib\n"},
		{"depth", "internal/x/b.go", "-- internal/x/b.go --\npackage x\n"},
		{"package names", "package util", "-- core/util/b.go --\npackage util\n"},
		{"package names", "package manager", "-- core/manager/b.go --\npackage manager\n"},
		{"package names", "in folder wire/sip", "-- wire/sip/b.go --\npackage siplib\n"},
		{"one package per library", "github.com/miekg/dns lives in core/host", "-- core/host/b.go --\npackage host\nimport _ \"github.com/miekg/dns\"\n" +
			"-- core/listen/b.go --\npackage listen\nimport _ \"github.com/miekg/dns/sub\"\n"},
		{"no foreign types", "dns.Msg", "-- wire/sip/b.go --\npackage sip\nimport \"github.com/miekg/dns\"\n// Ask asks.\nfunc Ask(m *dns.Msg) {}\n"},
		{"no foreign types", "pgx.Conn", "-- core/host/b.go --\npackage host\nimport \"github.com/jackc/pgx/v5\"\n// DB is it.\ntype DB struct { *pgx.Conn }\n"},
		{"sockets", "net.Dial opens", "-- wire/sip/b.go --\npackage sip\nimport \"net\"\nfunc f() { net.Dial(\"tcp\", \"\") }\n"},
		{"sockets", "net.ListenConfig opens", "-- core/host/b.go --\npackage host\nimport n \"net\"\nvar c n.ListenConfig\n"},
		{"sockets", "net/http.ListenAndServe opens", "-- role/frontend/b.go --\npackage frontend\nimport \"net/http\"\nfunc f() { http.ListenAndServe(\"\", nil) }\n"},
		{"sockets", "crypto/tls.Dial opens", "-- client/b.go --\n// Package client\npackage client\nimport \"crypto/tls\"\nfunc f() { tls.Dial(\"\", \"\", nil) }\n"},
		{"sockets", "net/http.Client without Transport", "-- core/host/b.go --\npackage host\nimport \"net/http\"\nvar c = &http.Client{Timeout: 1}\n"},
		{"file size", "wire/sip/b.go: 901 lines", "-- wire/sip/b.go --\npackage sip@900:\\n@\n"},
		{"file size", "main.go: 20", "-- main.go --\n// Fernamt\npackage main@200:\\n@\n"},
		{"function size", "f has 122 lines", "-- wire/sip/b.go --\npackage sip\nfunc f() {@121:\\n@}\n"},
		{"function median", "median function has 20 lines", "-- wire/sip/b.go --\npackage sip\n@9:func _() {\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n}\\n@"},
		{"package size", "wire/sip: 3", "-- wire/sip/b.go --\npackage sip@3000:\\n@\n"},
		{"package size", "role/frontend: 2", "-- role/frontend/b.go --\npackage frontend@2000:\\n@\n"},
		{"parameters", "6 parameters", "-- wire/sip/b.go --\npackage sip\nfunc f(a, b, c int, d, e, g string) {}\n"},
		{"interfaces", "an interface of 5 methods", "-- wire/sip/b.go --\npackage sip\ntype i interface { A(); B(); C(); D(); E() }\n"},
		{"package variables", "variable count changes", "-- wire/sip/b.go --\npackage sip\nvar count int\n-- wire/sip/c.go --\npackage sip\nfunc f() { count++ }\n"},
		{"package variables", "variable known changes", "-- wire/sip/b.go --\npackage sip\nvar known = map[int]int{}\nfunc f() { known[1] = 2 }\n"},
		{"package variables", "it exists to change", "-- wire/sip/b.go --\npackage sip\nimport \"sync\"\nvar mu sync.Mutex\n"},
	}
}

func brokenWords() []brokenTree {
	return []brokenTree{
		{"package comment", "wire/sdp", "-- wire/sdp/b.go --\npackage sdp\n"},
		{"doc comments", "exported Do has no comment", "-- wire/sip/b.go --\npackage sip\nfunc Do() {}\n"},
		{"doc comments", "exported T has no comment", "-- wire/sip/b.go --\npackage sip\ntype T int\n"},
		{"spec references", "stand apart", "-- wire/sip/b.go --\npackage sip\n// RFC3261 §17\n"},
		{"spec references", "a section is §", "-- wire/sip/b.go --\npackage sip\n// RFC 3261 section 17\n"},
		{"spec references", "number comes first", "-- wire/sip/b.go --\npackage sip\n// section 17.2 of RFC 3261\n"},
		{"spec references", "a space stands before", "-- wire/sip/b.go --\npackage sip\n// RFC 3261 § 17\n"},
		{"spec references", "stands in brackets", "-- wire/sip/b.go --\npackage sip\n// as MS-SIPAE says\n"},
		{"seed references", "written Seed", "-- wire/sip/b.go --\npackage sip\n// Seed: Edge 5062\n"},
		{"seed references", "73 rows", "-- wire/sip/b.go --\npackage sip\n// Seed: R74 Edge 5062\n"},
		{"setting docs", "a setting of role", "-- role/frontend/b.go --\npackage frontend\ntype role struct { Max int }\n"},
		{"setting docs", "a setting of Settings", "-- core/host/b.go --\npackage host\n// Settings\ntype Settings struct { Max int `toml:\"max\"` }\n"},
		{"command help", "a command without help", "-- role/frontend/b.go --\npackage frontend\nimport \"fernamt/core/admin\"\n" +
			"func cs() []admin.Command { return []admin.Command{{Name: \"x\"}} }\n"},
		{"command help", "a command without help", "-- core/admin/b.go --\npackage admin\nvar c = Command{Name: \"x\", Help: \"\"}\n"},
		{"log messages", "not constant", "-- wire/sip/b.go --\npackage sip\nimport \"log/slog\"\nfunc f(s string) { slog.Warn(\"bad \"+s) }\n"},
		{"log messages", "starts with a capital", "-- wire/sip/b.go --\npackage sip\nimport \"log/slog\"\nfunc f() { slog.Warn(\"Bad news\") }\n"},
		{"skips", "a skip without its reason", "-- wire/sip/b_test.go --\npackage sip\nimport \"testing\"\nfunc TestX(t *testing.T) { t.Skip() }\n"},
		{"self-contained", "does not ship", "-- README.md --\nsee ../sha" + "red/HOUSE.md\n"},
		{"self-contained", "does not ship", "-- wire/sip/b.go --\npackage sip\n// see ../sha" + "red/x\n"},
	}
}
