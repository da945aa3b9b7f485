package test

import (
	"context"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/test/play"
	"fernamt/test/plays"
)

// leaky is a UDP socket on a bad line: one datagram in eight is lost, in both directions.
type leaky struct {
	net.PacketConn
	mu   sync.Mutex
	dice *rand.Rand
	lost *atomic.Int64
}

func (l *leaky) lose() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dice.IntN(8) > 0 {
		return false
	}
	l.lost.Add(1)
	return true
}

func (l *leaky) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := l.PacketConn.ReadFrom(b)
		if err != nil || !l.lose() {
			return n, from, err
		}
	}
}

func (l *leaky) WriteTo(b []byte, to net.Addr) (int, error) {
	if l.lose() {
		return len(b), nil
	}
	return l.PacketConn.WriteTo(b, to)
}

// TestPlaysOnABadLine performs plays while datagrams are lost: everything has to come true
// all the same, only later, and nothing twice.
func TestPlaysOnABadLine(t *testing.T) {
	for i, name := range []string{"call", "call-cancel", "call-busy", "hold", "message-offline", "fork", "transfer-blind"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := plays.Files.ReadFile(name + ".txt")
			is.NoErr(t, err)
			script := strings.ReplaceAll(string(text), " on tcp", " on udp")
			script = strings.ReplaceAll(script, "\nalice hears 180\n", "\n\n") // nobody sends a lost 180 again
			p, err := play.Read(name+".txt", script)
			is.NoErr(t, err)
			st := newSuite(t).stage()
			st.Patience = 40 * time.Second
			var lost atomic.Int64
			seed := uint64(0)
			open := st.Network.ListenPacket
			st.Network.ListenPacket = func(ctx context.Context) (net.PacketConn, error) {
				pc, err := open(ctx)
				if err != nil {
					return nil, err
				}
				seed++
				return &leaky{PacketConn: pc, dice: rand.New(rand.NewPCG(uint64(i), seed)), lost: &lost}, nil
			}
			is.NoErr(t, p.Run(t.Context(), st, func(line int, sentence string) { t.Logf("%d: %s", line, sentence) }))
			t.Logf("%d datagrams were lost", lost.Load())
		})
	}
}
