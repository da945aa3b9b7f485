package transport

import (
	"sync/atomic"

	"fernamt/wire/sip"
)

// transports is how many values sip.Transport has, the zero value included.
const transports = int(sip.Local) + 1

type counters struct {
	in, out                                              [transports]atomic.Uint64
	malformed, tooLarge, refused, panics                 atomic.Uint64
	keepalives, slow, overdue, turnedAway, dialled, lost atomic.Uint64
	queued                                               atomic.Int64
}

// Stats is what a Layer has done since New, for metrics. Arrays are indexed by sip.Transport.
type Stats struct {
	In, Out     [transports]uint64 // messages
	Malformed   uint64             // messages that did not parse
	TooLarge    uint64             // messages over a limit
	Refused     uint64             // datagrams that the kernel refused to send
	Panics      uint64             // messages whose handling panicked
	Keepalives  uint64             // CRLF and STUN keep-alives answered, empty datagrams
	Slow        uint64             // connections ended because the peer does not read
	Overdue     uint64             // connections ended because the peer was silent or too slow a writer
	TurnedAway  uint64             // connections over a cap
	Dialled     uint64             // connections opened by us
	DialFailed  uint64             // of which this many could not be opened
	Connections int                // now
	Sockets     int                // UDP sockets now
	Queued      int64              // octets waiting for peers now
}

// Stats reads the counters. They are not one moment's picture: each is right by itself.
func (l *Layer) Stats() Stats {
	c := &l.count
	s := Stats{Malformed: c.malformed.Load(), TooLarge: c.tooLarge.Load(), Refused: c.refused.Load(),
		Panics: c.panics.Load(), Keepalives: c.keepalives.Load(), Slow: c.slow.Load(), Overdue: c.overdue.Load(),
		TurnedAway: c.turnedAway.Load(), Dialled: c.dialled.Load(), DialFailed: c.lost.Load(), Queued: c.queued.Load()}
	for i := range transports {
		s.In[i], s.Out[i] = c.in[i].Load(), c.out[i].Load()
	}
	l.mu.RLock()
	s.Connections, s.Sockets = len(l.conns), len(l.sockets)
	l.mu.RUnlock()
	return s
}
