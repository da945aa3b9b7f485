package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fernamt/core/host"
	"fernamt/core/listen"
	"fernamt/test/is"
)

// TestTakenDoor: one taken number of any role ends the start at once, in one line that names the door, with status 1.
func TestTakenDoor(t *testing.T) {
	for at, door := range map[string]string{"127.0.0.1:5061": "frontend/sips", "127.0.0.2:5060": "director/sip",
		"127.0.0.1:135": "manage/commands", "127.0.0.1:9061": "host/health"} {
		net := listen.NewSim().Host(netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::1"))
		taken, err := net.Listen(t.Context(), netip.MustParseAddrPort(at))
		is.NoErr(t, err)
		var out, errs bytes.Buffer
		p := host.Program{Kinds: roles(), Version: "test", In: strings.NewReader(""), Out: &out, Err: &errs, Network: net}
		began := time.Now()
		status := p.Run(t.Context(), []string{"--data", t.TempDir(), "lab"})
		is.Equal(t, status, 1, door)
		is.True(t, strings.Contains(errs.String(), door), errs.String())
		is.True(t, !strings.Contains(out.String(), "ready"), out.String())
		is.True(t, time.Since(began) < 15*time.Second, door+": it took too long")
		is.NoErr(t, taken.Close())
	}
}
