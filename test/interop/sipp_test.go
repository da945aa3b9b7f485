package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// sipp is how to run one of the scenarios in the folder sipp.
type sipp struct {
	scenario string
	user     string // who this sipp is
	peer     string // whom it calls
	calls    int
	rate     int
	port     int
}

func (l *lab) sippArgs(s sipp) []string {
	return []string{l.addr("sip"), "-sf", filepath.Join("sipp", s.scenario+".xml"), "-i", "127.0.0.1",
		"-p", fmt.Sprint(s.port), "-cp", fmt.Sprint(s.port + 1), "-mp", fmt.Sprint(s.port + 2), "-m", fmt.Sprint(s.calls),
		"-r", fmt.Sprint(max(1, s.rate)), "-s", s.peer, "-au", s.user, "-ap", l.password(s.user),
		"-key", "from", s.user, "-key", "domain", l.Domain, "-nostdin", "-timeout", "60", "-timeout_error",
		"-trace_err", "-error_file", filepath.Join(os.TempDir(), fmt.Sprintf("sipp-%d.err", s.port))}
}

// runSipp runs a scenario to its end; any call that does not go by the book
// makes it exit with an error.
func runSipp(t *testing.T, l *lab, s sipp) {
	t.Helper()
	p := startSipp(t, l, s)
	p.finish(t)
}

type runningSipp struct {
	*program
	errors, name string
}

func startSipp(t *testing.T, l *lab, s sipp) *runningSipp {
	t.Helper()
	args := l.sippArgs(s)
	p := start(t, launch{env: []string{"TERM=xterm"}}, "sipp", args...)
	r := &runningSipp{p, args[len(args)-1], s.scenario}
	t.Cleanup(func() { r.kill(); os.Remove(r.errors) })
	return r
}

func (r *runningSipp) finish(t *testing.T) {
	t.Helper()
	if status := r.exit(t, 90*time.Second); status != 0 {
		said, _ := os.ReadFile(r.errors)
		t.Fatalf("sipp %s: exit status %d\n%s\n%s", r.name, status, head(string(said)), tail(r.output()))
	}
}

// TestSipp: sipp plays both sides; each scenario says in its head what it is.
func TestSipp(t *testing.T) {
	need(t, "sipp")
	for _, c := range []pair{
		{"basic call", "call_uac", "call_uas", 100, 50},
		{"late BYE", "latebye_uac", "latebye_uas", 20, 20},
		{"CANCEL", "cancel_uac", "cancel_uas", 20, 20},
		{"lost ACK", "lostack_uac", "call_uas", 50, 50},
		{"lossy line", "lossy_uac", "call_uas", 50, 50},
		{"MESSAGE", "message_uac", "message_uas", 100, 50},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, fresh(t)) })
	}
}

// pair is a scenario for each side.
type pair struct {
	name, caller, callee string
	calls, rate          int
}

func (c pair) run(t *testing.T, l *lab) {
	base := ports(t, 16) // a sipp takes SIP, control, and four for media
	bob := sipp{scenario: "register", user: "bob", peer: "bob", calls: 1, port: base}
	runSipp(t, l, bob)
	bob.scenario, bob.calls = c.callee, c.calls
	uas := startSipp(t, l, bob)
	time.Sleep(300 * time.Millisecond)
	runSipp(t, l, sipp{scenario: c.caller, user: "alice", peer: "bob", calls: c.calls, rate: c.rate, port: base + 8})
	uas.finish(t)
}

func head(s string) string { return s[:min(len(s), 2500)] }
