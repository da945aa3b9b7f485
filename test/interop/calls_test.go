package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fernamt/test/is"
)

// inside writes a request inside the dialog that ok, the 2xx to invite, has made:
// its target is ok's Contact, its Route is ok's Record-Route backwards.
func (r *raw) inside(invite, ok, method string, number int) string {
	target := strings.Trim(header(ok, "Contact"), "<>")
	target, _, _ = strings.Cut(target, ">")
	var routes []string
	head, _, _ := strings.Cut(ok, "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		if v, found := strings.CutPrefix(line, "Record-Route: "); found {
			routes = append(routes, "Route: "+v+"\r\n")
		}
	}
	slices.Reverse(routes)
	return fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%d;rport;branch=z9hG4bKi%d\r\nMax-Forwards: 70\r\n%sFrom: %s\r\nTo: %s\r\n"+
		"Call-ID: %s\r\nCSeq: %d %s\r\nContent-Length: 0\r\n\r\n", method, target, r.port(), serial.Add(1), strings.Join(routes, ""),
		header(invite, "From"), header(ok, "To"), callID(invite), number, method)
}

// trustedLab is a lab where a raw socket need not sign in, with bob at a socket.
func trustedLab(t *testing.T) (l *lab, alice, bob *raw) {
	t.Helper()
	l = labWith(t, func(toml string) string { return setting(t, toml, "frontend", "trusted", `["127.0.0.1"]`) }).during(t)
	alice, bob = openRaw(t, l.addr("sip")), openRaw(t, l.addr("sip"))
	bob.register(t, l.account("bob"), 600)
	return l, alice, bob
}

func (r *raw) invite(to string) string {
	return r.request("INVITE", to, "sip:alice@example.test", to, fmt.Sprintf("Contact: <sip:alice@127.0.0.1:%d>", r.port()))
}

func (r *raw) contact() string { return fmt.Sprintf("Contact: <sip:bob@127.0.0.1:%d>", r.port()) }

const toBob = "sip:bob@example.test"

// TestStorm: the same INVITE 200 times, the same answer 50 times. The callee rings
// once, the caller gets its answer, and a retransmitted BYE ends one call.
func TestStorm(t *testing.T) {
	l, alice, bob := trustedLab(t)
	invite := alice.invite(toBob)
	tried := 0
	for range 200 {
		alice.send(t, invite)
		if status(alice.next(100*time.Millisecond)) == 100 {
			tried++
		}
	}
	is.Equal(t, tried, 200, "each copy is answered 100 again")
	first := bob.takeRequest(t, "INVITE", 5*time.Second)
	copies := 0
	for m := bob.next(700 * time.Millisecond); m != ""; m = bob.next(700 * time.Millisecond) {
		is.Equal(t, header(m, "Via"), header(first, "Via"), "a second branch rings")
		copies++
	}
	is.True(t, copies <= 2, fmt.Sprintf("bob got %d more copies: those are timer A's alone", copies))
	for range 50 {
		bob.send(t, reply(first, 200, "b", bob.contact()))
	}
	ok := alice.final(5 * time.Second)
	is.Equal(t, status(ok), 200, ok)
	alice.send(t, alice.inside(invite, ok, "ACK", 1))
	bob.takeRequest(t, "ACK", 5*time.Second)
	bye := alice.inside(invite, ok, "BYE", 2)
	for range 100 {
		alice.send(t, bye)
	}
	m := bob.takeRequest(t, "BYE", 5*time.Second)
	bob.send(t, reply(m, 200, "b"))
	for {
		m := alice.final(5 * time.Second)
		if strings.Contains(cseq(m), "BYE") || m == "" {
			is.Equal(t, status(m), 200, m)
			break
		}
	}
	l.alive(t)
}

// TestLostACK: the callee's 200 comes to the caller again and again until an ACK
// gets through to the callee (RFC 3261 §13.3.1.4: end to end).
func TestLostACK(t *testing.T) {
	_, alice, bob := trustedLab(t)
	invite := alice.invite(toBob)
	alice.send(t, invite)
	m := bob.takeRequest(t, "INVITE", 5*time.Second)
	answer := reply(m, 200, "b", bob.contact())
	for range 4 { // as timer G of the callee, whose ACKs get lost
		bob.send(t, answer)
		ok := alice.final(5 * time.Second)
		is.Equal(t, status(ok), 200, "a repeated 200 is passed on")
	}
	bob.send(t, answer)
	alice.send(t, alice.inside(invite, alice.final(5*time.Second), "ACK", 1))
	bob.takeRequest(t, "ACK", 5*time.Second)
}

// TestCancelRace: the CANCEL and the 200 cross in the proxy, in both orders. The
// caller always learns of the 200, and can end the call.
func TestCancelRace(t *testing.T) {
	for _, first := range []string{"CANCEL", "200"} {
		t.Run(first+" comes first", func(t *testing.T) {
			_, alice, bob := trustedLab(t)
			invite := alice.invite(toBob)
			alice.send(t, invite)
			m := bob.takeRequest(t, "INVITE", 5*time.Second)
			cancel := strings.NewReplacer("INVITE sip:", "CANCEL sip:", "CSeq: 1 INVITE", "CSeq: 1 CANCEL").Replace(invite)
			if first == "CANCEL" {
				bob.send(t, reply(m, 180, "b", bob.contact()))
				time.Sleep(50 * time.Millisecond)
				alice.send(t, cancel)
				bob.takeRequest(t, "CANCEL", 5*time.Second) // its answer gets lost; bob has picked up
				bob.send(t, reply(m, 200, "b", bob.contact()))
			} else {
				bob.send(t, reply(m, 200, "b", bob.contact()))
				time.Sleep(50 * time.Millisecond)
				alice.send(t, cancel)
			}
			got := map[string]string{}
			for range 2 {
				f := alice.final(5 * time.Second)
				got[cseq(f)] = f
			}
			is.Equal(t, status(got["1 CANCEL"]), 200, "the answer to the CANCEL")
			is.Equal(t, status(got["1 INVITE"]), 200, "the answer to the INVITE")
			ok := got["1 INVITE"]
			alice.send(t, alice.inside(invite, ok, "ACK", 1))
			bob.takeRequest(t, "ACK", 5*time.Second)
			alice.send(t, alice.inside(invite, ok, "BYE", 2))
			bob.send(t, reply(bob.takeRequest(t, "BYE", 5*time.Second), 200, "b"))
			is.Equal(t, status(alice.final(5*time.Second)), 200)
		})
	}
}

// TestDiskFull: with no room left on the disk a message is not acknowledged, calls
// go on, and when there is room again all is well.
func TestDiskFull(t *testing.T) {
	if !isolated(t) {
		return
	}
	dir := t.TempDir()
	is.NoErr(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"))
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	writeSettings(t, dir, func(toml string) string { return setting(t, toml, "frontend", "trusted", `["127.0.0.1"]`) })
	l := startLab(t, dir).during(t)
	alice, bob := openRaw(t, l.addr("sip")), openRaw(t, l.addr("sip"))
	bob.register(t, l.account("bob"), 600)
	read := map[string]int{}
	write := func(text string) int {
		return status(alice.persist(t, alice.request("MESSAGE", "sip:carol@example.test", "sip:alice@example.test", "sip:carol@example.test",
			"Content-Type: text/plain", "\r\n"+text), 10*time.Second))
	}
	is.Equal(t, write("before"), 202)
	filler := filepath.Join(dir, "filler")
	fill(t, filler)
	refused := 0
	for i := range 20 {
		if c := write(fmt.Sprintf("into a full disk %d", i)); c >= 500 {
			refused++
		} else if c/100 == 2 {
			read[fmt.Sprintf("into a full disk %d", i)] = -1 // there was a little room yet; then it must be there
			fill(t, filler)
		} else {
			t.Errorf("status %d", c)
		}
	}
	is.True(t, refused > 0, "nothing was refused: the disk was not full")
	call(t, alice, bob)
	bob.register(t, l.account("bob"), 600)
	is.NoErr(t, os.Remove(filler))
	is.Equal(t, write("after"), 202)
	carol := openRaw(t, l.addr("sip"))
	carol.register(t, l.account("carol"), 600)
	got := readAll(t, carol)
	for text, n := range got {
		if n != 1 || !(text == "before" || text == "after" || read[text] == -1) {
			t.Errorf("carol read %q %d times", text, n)
		}
	}
	is.Equal(t, len(got), 2+len(read), fmt.Sprint(got))
	t.Logf("%d messages refused while the disk was full", refused)
}

// fill takes all the room that is left.
func fill(t *testing.T, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	is.NoErr(t, err)
	defer f.Close()
	for _, size := range []int{1 << 20, 4096, 512} {
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
}

// call makes a whole call from alice to bob.
func call(t *testing.T, alice, bob *raw) {
	t.Helper()
	invite := alice.invite(toBob)
	var wg sync.WaitGroup
	wg.Go(func() { alice.send(t, invite) })
	bob.send(t, reply(bob.takeRequest(t, "INVITE", 5*time.Second), 200, "b", bob.contact()))
	wg.Wait()
	ok := alice.final(5 * time.Second)
	is.Equal(t, status(ok), 200, ok)
	alice.send(t, alice.inside(invite, ok, "ACK", 1))
	bob.takeRequest(t, "ACK", 5*time.Second)
	alice.send(t, alice.inside(invite, ok, "BYE", 2))
	bob.send(t, reply(bob.takeRequest(t, "BYE", 5*time.Second), 200, "b"))
	is.Equal(t, status(alice.final(5*time.Second)), 200)
}
