package transport

import "time"

// pacer lets a reader sleep between drains while traffic is dense, so that one wake-up serves many datagrams.
type pacer struct {
	pause time.Duration
	dense bool
	last  int64 // when the reader last found something
	quick int   // how often in a row that was less than pause ago
	empty int   // rounds in a row without a datagram
}

// batchSize is how many datagrams one system call moves at most.
const batchSize = 64

const (
	quickRounds = 8 // so many quick wake-ups in a row make traffic dense
	emptyRounds = 4 // so many empty rounds end that
)

// pace is told how many datagrams a round brought and sleeps when traffic is dense.
func (p *pacer) pace(got int, now int64) {
	switch {
	case got == 0:
		if p.empty++; p.empty >= emptyRounds {
			p.dense, p.quick = false, 0
		}
	case now-p.last < int64(p.pause):
		p.empty = 0
		p.last = now
		if p.quick++; p.quick >= quickRounds {
			p.dense = true
		}
	default:
		p.empty = 0
		p.last = now
		if !p.dense {
			p.quick = 0
		}
	}
	if p.dense && got < batchSize { // a full batch means that more is waiting
		nap(p.pause)
	}
}
