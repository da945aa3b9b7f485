package test

import (
	"strings"
	"testing"

	"fernamt/test/is"
	"fernamt/test/play"
	"fernamt/test/plays"
)

// notHere lists plays that cannot be performed in one process on a simulated network, and why.
// TestPlaysApart performs them.
var notHere = map[string]string{
	"crash":          "a test cannot kill itself",
	"director":       "a director stands before front ends on other hosts",
	"director-wrong": "a director stands before front ends on other hosts",
}

// TestPlays performs each play on a whole suite of its own.
func TestPlays(t *testing.T) {
	all, err := play.All(plays.Files)
	is.NoErr(t, err)
	for _, p := range all {
		name := strings.TrimSuffix(p.File, ".txt")
		if notHere[name] != "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSuite(t)
			st := s.stage()
			is.Equal(t, p.Missing(st), "")
			is.NoErr(t, p.Run(t.Context(), st, func(line int, sentence string) { t.Logf("%d: %s", line, sentence) }))
		})
	}
}
