//go:build unix

package transport

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// idleClients is the other process of TestIdleTLS: it opens connections, sends one request on each, and holds them until
// its input ends.
func idleClients() {
	addr, count, _ := strings.Cut(os.Getenv("FERNAMT_TEST_IDLE"), " ")
	n, _ := strconv.Atoi(count)
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < n; i += 8 {
				c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
				if err != nil {
					fmt.Println("failed", err)
					return
				}
				fmt.Fprint(c, options("TLS", fmt.Sprint(i), "", ""))
				if _, err := readResponse(bufio.NewReader(c)); err != nil {
					fmt.Println("failed", err)
					return
				}
				conns[i] = c
			}
		})
	}
	wg.Wait()
	fmt.Println("open")
	io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(conns)
}

// resident is the memory that the process holds, in octets.
func resident(t *testing.T) int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil { // not linux: what Go holds from the system
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.Sys - m.HeapReleased)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	is.NoErr(t, err)
	return pages * os.Getpagesize()
}

// An idle TLS connection costs at most 24 KiB, of memory that the process really holds. With -short and under the race
// detector, whose own memory would count, the connections are fewer and the figure is only printed.
func TestIdleTLS(t *testing.T) {
	n, held := 10000, true
	if testing.Short() || raceOn {
		n, held = 500, false
	}
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil && files.Max < uint64(n)+1000 {
		n = int(files.Max) / 2
		t.Logf("only %d connections: the system allows %d descriptors", n, files.Max)
	}
	cert, _ := issue(t, "pool.test")
	r := newRig(t, Config{Limits: Limits{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	r.on(func(m *sip.Message) {
		r.Keep(m.Flow.Link.Info().ID, time.Hour)
		ok(m)
	})
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	addr := r.tcp(func(c net.Conn) net.Conn { return tls.Server(c, config) })
	debug.FreeOSMemory()
	before, goroutines := resident(t), runtime.NumGoroutine()

	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), fmt.Sprintf("FERNAMT_TEST_IDLE=%s %d", addr, n))
	other.Stderr = os.Stderr
	in, err := other.StdinPipe()
	is.NoErr(t, err)
	out, err := other.StdoutPipe()
	is.NoErr(t, err)
	is.NoErr(t, other.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	is.NoErr(t, err)
	is.Equal(t, line, "open\n")
	for range n {
		r.next()
	}
	is.True(t, until(func() bool { return r.Stats().Connections == n }), "all are open")
	early := (resident(t) - before) / n
	debug.FreeOSMemory()
	late := (resident(t) - before) / n
	t.Logf("%d idle TLS connections: %.1f KiB each, %.1f KiB after a collection; %.2f goroutines each", n, float64(early)/1024,
		float64(late)/1024, float64(runtime.NumGoroutine()-goroutines)/float64(n))
	if held {
		is.True(t, late <= 24<<10, fmt.Sprint(late, " octets per idle connection"))
		is.True(t, early <= 24<<10, fmt.Sprint(early, " octets per idle connection before a collection"))
	}
	in.Close()
	is.NoErr(t, other.Wait())
	is.True(t, until(func() bool { return r.Stats().Connections == 0 }), "all are gone")
}
