// Command bench holds our signalling against Kamailio's on this machine: the same
// load, the same cores, turn by turn, and prints the processor time per operation, the
// ratio within each round and the latency.
//
//	go build -o bin/fernamt . && go run ./test/bench -rounds 5
//
// It needs sipp and kamailio (Debian: sip-tester, kamailio). The server runs on one
// core, sipp on the other. Both servers get 20,000 registered people first. All
// traffic stays on 127.0.0.1; every process is ended by its id.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

// load is one kind of operation at one rate.
type load struct {
	name string
	rate int
	auth bool
}

var loads = []load{
	{"register", 20000, false}, {"register", 8000, false},
	{"register_auth", 10000, true}, {"register_auth", 5000, true},
	{"invite", 3000, false}, {"invite", 1000, false},
	{"message", 15000, false}, {"message", 5000, false},
}

// result is what one run showed.
type result struct {
	us       float64 // server processor time per good operation
	got      float64 // operations per second
	bad      int
	p50, p99 float64 // ms, as the caller sees it
}

func main() {
	rounds := flag.Int("rounds", 3, "rounds, ours and Kamailio in turn")
	secs := flag.Int("secs", 4, "seconds a run")
	only := flag.String("only", "", "only loads whose name starts so")
	extra := flag.String("settings", "", "lines to add to our settings, such as '[sip]\npace=\"200us\"'")
	conns := flag.Int("idle", 0, "instead: measure that many idle TLS connections, at most 10000")
	bin := flag.String("bin", "bin/fernamt", "our binary")
	flag.Parse()
	b := &bench{secs: *secs, bin: *bin, extra: strings.ReplaceAll(*extra, `\n`, "\n")}
	if err := b.run(*rounds, *only, *conns); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(rounds int, only string, conns int) error {
	dir, err := os.MkdirTemp("", "fernamt-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.dir = dir
	if err := b.users(); err != nil {
		return err
	}
	if conns > 0 {
		return b.idle(conns)
	}
	for _, auth := range []bool{false, true} {
		var chosen []load
		for _, l := range loads {
			if l.auth == auth && strings.HasPrefix(l.name, only) {
				chosen = append(chosen, l)
			}
		}
		if len(chosen) > 0 {
			if err := b.compare(chosen, auth, rounds); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare runs the loads against both servers, round by round.
func (b *bench) compare(chosen []load, auth bool, rounds int) error {
	ours, err := b.startOurs(auth)
	if err != nil {
		return err
	}
	defer ours.stop()
	kam, err := b.startKamailio(auth)
	if err != nil {
		return err
	}
	defer kam.stop()
	for _, s := range []*server{ours, kam} { // the first round after start is not typical
		if _, err := b.load(s, load{"register", 10000, false}, auth); err != nil {
			return err
		}
	}
	for _, l := range chosen {
		var a, k []result
		var ratio []float64
		for range rounds {
			ra, err := b.load(ours, l, auth)
			if err != nil {
				return err
			}
			rk, err := b.load(kam, l, auth)
			if err != nil {
				return err
			}
			a, k = append(a, ra), append(k, rk)
			ratio = append(ratio, ra.us/rk.us)
		}
		report(l, a, k, ratio)
	}
	return nil
}

func report(l load, a, k []result, ratio []float64) {
	us := func(r []result) string {
		v := pick(r, func(r result) float64 { return r.us })
		return fmt.Sprintf("%6.2f [%.2f-%.2f]", median(v), v[0], v[len(v)-1])
	}
	lat := func(r []result) string {
		return fmt.Sprintf("%.2f/%.2f ms", median(pick(r, func(r result) float64 { return r.p50 })), median(pick(r, func(r result) float64 { return r.p99 })))
	}
	bad := func(r []result) (n int) {
		for _, x := range r {
			n += x.bad
		}
		return n
	}
	slices.Sort(ratio)
	fmt.Printf("%-14s %6d/s  ours %s us  kamailio %s us  ratio %.2f [%.2f-%.2f]  p50/p99 ours %s kamailio %s  failed %d/%d\n",
		l.name, l.rate, us(a), us(k), median(ratio), ratio[0], ratio[len(ratio)-1], lat(a), lat(k), bad(a), bad(k))
}

func pick(r []result, f func(result) float64) []float64 {
	var v []float64
	for _, x := range r {
		v = append(v, f(x))
	}
	slices.Sort(v)
	return v
}

// median wants v sorted.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	return v[len(v)/2]
}
