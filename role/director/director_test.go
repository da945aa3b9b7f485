package director

import (
	"testing"

	"fernamt/test/is"
	"fernamt/wire/ports"
)

// What the director does is played with processes of their own in test/apart_test.go.
func TestPorts(t *testing.T) {
	r := New()
	seed := map[string]bool{}
	for _, p := range r.Ports() {
		is.NoErr(t, p.Check(), p.Name)
		is.True(t, p.Purpose != "" && p.Zweck != "", p.Name)
		if p.Use == ports.Listen {
			for _, s := range p.Seed {
				seed[s] = true
			}
		}
	}
	is.Equal(t, seed, map[string]bool{"R42": true})
}
