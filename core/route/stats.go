package route

import (
	"sync/atomic"

	"fernamt/wire/sip"
)

const methods = 32 // room for every sip.Method

type counters struct {
	requests       [methods]atomic.Uint64
	replies        [700]atomic.Uint64
	challenges     atomic.Uint64
	strayResponses atomic.Uint64
	panics         atomic.Uint64
}

// Stats are numbers for metrics, as they are now.
type Stats struct {
	Requests   map[string]uint64 // by method
	Replies    map[int]uint64    // answers that the gate and its roles gave themselves, by status
	Challenges uint64
	Failures   uint64 // wrong passwords
	Banned     uint64 // requests dropped since their sender is banned
	Scanners   uint64
	Limited    uint64 // over the rate of one address
	Shed       uint64 // turned away by overload
	Shedding   int    // share of new requests that is turned away now, 0 to 100
	Stray      uint64 // responses that belong to nothing
	Panics     uint64 // of timers and of requests' own goroutines; each cost one request
	Bindings   int
}

// Stats reads the counters.
func (g *Gate) Stats() Stats {
	s := Stats{Requests: map[string]uint64{}, Replies: map[int]uint64{}, Challenges: g.stats.challenges.Load(),
		Failures: g.guard.count.failures.Load(), Banned: g.guard.count.banned.Load(), Scanners: g.guard.count.scanners.Load(),
		Limited: g.guard.count.limited.Load(), Shed: g.guard.count.shed.Load(), Shedding: int(g.guard.shed.Load()),
		Stray: g.stats.strayResponses.Load(), Panics: g.stats.panics.Load(), Bindings: g.locations.Count()}
	for i := range g.stats.requests {
		if n := g.stats.requests[i].Load(); n > 0 {
			s.Requests[sip.Method(i).String()] = n
		}
	}
	for i := range g.stats.replies {
		if n := g.stats.replies[i].Load(); n > 0 {
			s.Replies[i] = n
		}
	}
	return s
}
