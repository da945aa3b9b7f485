package admin

import (
	"bytes"
	"strings"
	"testing"

	"fernamt/core/config"
	"fernamt/test/is"
)

// TestPlain: what a stranger sent moves no cursor, rings no bell and colours nothing.
func TestPlain(t *testing.T) {
	for in, want := range map[string]string{"Müller": "Müller", "a\x1b[31mb": `a\x1b[31mb`, "a\r\nb\tc": `a\r\nb\tc`, "\x7f": `\x7f`,
		"\u009b2J": `\u009b2J`, "\xff": `\xff`, "\u202egnp": `\u202egnp`, "": ""} {
		is.Equal(t, Plain(in), want)
	}
	is.Equal(t, PlainLines("a\x1b\r\n\tb\r\n"), "a\\x1b\n\tb\n")
	var out bytes.Buffer
	(&Call{Out: &out}).Rows("none", []string{"agent"}, [][]string{{"evil\x1b]0;x\x07\nroot"}})
	is.Equal(t, out.String(), "AGENT\nevil\\x1b]0;x\\a\\nroot\n")
}

// TestShortAddress: a name without a domain belongs to the first domain of the settings.
func TestShortAddress(t *testing.T) {
	tab := table(t)
	for argv, want := range map[string]string{"user add bob": `user add ["bob@one.test"]`, "user add b@two.test": `user add ["b@two.test"]`,
		"user add sip:bob": `user add ["sip:bob@one.test"]`, "user alias bob rob": `user alias ["bob@one.test" "rob"]`, "user list bob": `user list ["bob"]`} {
		var out bytes.Buffer
		call := &Call{Caller: Caller{"tester", Own}, Out: &out, Settings: &config.Settings{Domains: []string{"one.test", "two.test"}}}
		is.NoErr(t, tab.Run(t.Context(), strings.Fields(argv), call))
		is.Equal(t, out.String(), want)
	}
}
