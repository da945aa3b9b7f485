package transaction

import (
	"fmt"
	"net/netip"
	"testing"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// Whoever was called once has seen a branch of ours. It must not tell him those of others: with one he could answer in
// somebody else's place.
func TestBranchesCannotBeGuessed(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		w := newWire(sip.UDP)
		near := 0
		var last uint64
		for i := range 100 {
			c, err := d.l.Request(request(t, w.flow(), "OPTIONS", ""), w.flow(), 0, caller{d})
			is.NoErr(t, err)
			m := message(t, w.flow(), "SIP/2.0 200 OK\n"+viaOf(w.take()[0])+"\nFrom: <sip:a@b>;tag=1\nTo: <sip:c@d>\nCall-ID: 1\nCSeq: 1 OPTIONS\n\n")
			via, err := m.Via()
			is.NoErr(t, err)
			_, gen, ok := d.l.parseBranch(via.Branch)
			is.True(t, ok, "own branch", string(via.Branch))
			if gap := gen - last; i > 0 && (gap < 1<<32 || -gap < 1<<32) {
				near++
			}
			last = gen
			d.l.Receive(m)
			_ = c
		}
		is.True(t, near < 3, fmt.Sprint("generations that follow each other: ", near))
	})
}

func viaOf(text string) string {
	for i := range text {
		if i > 0 && text[i-1] == '\n' && len(text) > i+4 && text[i:i+4] == "Via:" {
			for j := i; j < len(text); j++ {
				if text[j] == '\r' {
					return text[i:j]
				}
			}
		}
	}
	return ""
}

// The callee sees the caller's Via. With it he must not call off what the caller asked for.
func TestCancelFromElsewhere(t *testing.T) {
	run(t, func(t *testing.T, d *desk) {
		w := newWire(sip.UDP)
		d.got = func(m *sip.Message) { d.l.Accept(m, d) }
		d.l.Receive(request(t, w.flow(), "INVITE", ";branch=z9hG4bKx"))
		d.told()
		far := sip.Flow{Link: w, Remote: netip.MustParseAddrPort("127.0.0.3:5070")}
		d.l.Receive(request(t, far, "CANCEL", ";branch=z9hG4bKx"))
		is.Equal(t, fmt.Sprint(w.firsts()), "[SIP/2.0 481 Call/Transaction Does Not Exist]")
		is.Equal(t, len(d.told()), 0, "nobody is told")
		d.l.Receive(request(t, w.flow(), "CANCEL", ";branch=z9hG4bKx"))
		is.Equal(t, fmt.Sprint(w.firsts()), "[SIP/2.0 200 OK]")
		is.Equal(t, fmt.Sprint(d.told()), "[cancelled]")
	})
}
