package interop

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestKill: the server is killed 50 times while it acknowledges messages for
// somebody who is not there. The writers say each message again, the very same
// one, until it is acknowledged, also to the server's next life. When bob comes,
// he reads every acknowledged message once, and none twice.
func TestKill(t *testing.T) {
	dir, off := t.TempDir(), offset()
	writeSettings(t, dir, func(toml string) string { return setting(t, toml, "frontend", "trusted", `["127.0.0.1"]`) })
	l := serve(t, dir, off, "lab", "--data", dir)
	waitReady(t, l)
	w := &writer{stop: make(chan struct{}), acknowledged: map[string]bool{}}
	var wg sync.WaitGroup
	for i := range 2 {
		r := openRaw(t, l.addr("sip"))
		wg.Go(func() { w.write(t, r, i) })
	}
	for range 50 {
		w.waitFor(t, 5)
		l.signal(syscall.SIGKILL)
		<-l.done
		l = serve(t, dir, off, "lab", "--data", dir)
		waitReady(t, l)
	}
	l.during(t)
	close(w.stop)
	wg.Wait()
	bob := openRaw(t, l.addr("sip"))
	bob.register(t, l.account("bob"), 600)
	read := readAll(t, bob)
	for text := range w.acknowledged {
		if read[text] == 0 {
			t.Errorf("%q was acknowledged and is lost", text)
		}
	}
	for text, n := range read {
		if n > 1 {
			t.Errorf("%q was delivered %d times", text, n)
		}
	}
	t.Logf("%d messages acknowledged over 50 kills, %d read", len(w.acknowledged), len(read))
}

// writer sends messages and notes those that were acknowledged.
type writer struct {
	stop         chan struct{}
	mu           sync.Mutex
	acknowledged map[string]bool
	since        int
}

func (w *writer) write(t *testing.T, r *raw, me int) {
	for n := 0; ; n++ {
		text := fmt.Sprintf("message %d of writer %d.", n, me)
		m := r.request("MESSAGE", "sip:bob@example.test", "sip:alice@example.test", "sip:bob@example.test",
			"Content-Type: text/plain", "\r\n"+text)
		for {
			select {
			case <-w.stop:
				return
			default:
			}
			_, _ = r.WriteTo([]byte(m), r.server) // nobody may be there
			if answer := r.final(100 * time.Millisecond); callID(answer) == callID(m) && status(answer) == 202 {
				break
			}
		}
		w.mu.Lock()
		w.acknowledged[text] = true
		w.since++
		w.mu.Unlock()
	}
}

// waitFor waits until n more messages have been acknowledged.
func (w *writer) waitFor(t *testing.T, n int) {
	t.Helper()
	w.mu.Lock()
	w.since = 0
	w.mu.Unlock()
	until(t, 30*time.Second, "acknowledged messages", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.since >= n
	})
}

// readAll takes messages until none comes for a while, and counts each text. A
// message that is sent again because its 200 was late is the same transaction:
// it counts once.
func readAll(t *testing.T, r *raw) map[string]int {
	t.Helper()
	read, seen := map[string]int{}, map[string]bool{}
	for {
		m := r.next(3 * time.Second)
		if m == "" {
			return read
		}
		if !strings.HasPrefix(m, "MESSAGE ") {
			continue
		}
		r.send(t, reply(m, 200, "bob"))
		if via := header(m, "Via"); !seen[via] {
			seen[via] = true
			_, body, _ := strings.Cut(m, "\r\n\r\n")
			read[body]++
		}
	}
}
