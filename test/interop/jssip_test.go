package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// jssip is a JavaScript phone in Node, over secure WebSocket.
type jssip struct {
	*program
	address string
}

// jsEvent is a line that node/phone.js prints.
type jsEvent struct {
	Event, From, Text, Cause string
	Status                   int
}

func startJsSIP(t *testing.T, l *lab, user, password string) *jssip {
	t.Helper()
	need(t, "node")
	if _, err := os.Stat("node/node_modules/jssip"); err != nil {
		leaveOut(t, "the npm package jssip")
	}
	j := &jssip{address: user + "@" + l.Domain}
	j.program = start(t, launch{in: true, env: []string{"NODE_EXTRA_CA_CERTS=" + l.CA}}, "node", "node/phone.js",
		fmt.Sprintf("wss://localhost:%d/sip", l.Ports["https"]), j.address, password)
	t.Cleanup(func() {
		j.kill()
		if t.Failed() {
			t.Logf("JsSIP %s said:\n%s", j.address, tail(j.output()))
		}
	})
	return j
}

func (j *jssip) do(t *testing.T, command map[string]any) {
	t.Helper()
	b, _ := json.Marshal(command)
	if _, err := fmt.Fprintf(j.in, "%s\n", b); err != nil {
		t.Fatal(err)
	}
}

// await waits for an event, whenever it came.
func (j *jssip) await(t *testing.T, what string, match func(jsEvent) bool) {
	t.Helper()
	until(t, 20*time.Second, j.address+": "+what, func() bool {
		for line := range strings.Lines(j.output()) {
			var e jsEvent
			if json.Unmarshal([]byte(line), &e) == nil && match(e) {
				return true
			}
		}
		return false
	})
}

func event(name string) func(jsEvent) bool { return func(e jsEvent) bool { return e.Event == name } }

// TestJsSIP: a browser's SIP stack registers over WSS and writes to a desk phone
// and back; a wrong password is refused.
func TestJsSIP(t *testing.T) {
	need(t, "node", "baresip")
	l := fresh(t)
	dave := startJsSIP(t, l, "dave", l.password("dave"))
	dave.await(t, "registered", event("registered"))
	bob := startBaresip(t, l.phone("bob", "udp", pcmu, 1000)).registered(t)
	dave.do(t, map[string]any{"send": "bob@" + l.Domain, "text": "from a browser: äöü"})
	dave.await(t, "its message to be taken", func(e jsEvent) bool { return e.Event == "sent" && e.Status/100 == 2 })
	bob.reads(t, "sip:dave@"+l.Domain, "from a browser: äöü")
	bob.write(t, "dave", "from a desk")
	dave.await(t, "bob's message", func(e jsEvent) bool {
		return e.Event == "message" && e.Text == "from a desk" && e.From == "sip:bob@"+l.Domain
	})
	dave.do(t, map[string]any{"stop": true})
	dave.await(t, "unregistered", event("unregistered"))
}

func TestJsSIPWrongPassword(t *testing.T) {
	l := fresh(t)
	secret("not-the-password")
	dave := startJsSIP(t, l, "dave", "not-the-password")
	dave.await(t, "refusal", func(e jsEvent) bool { return e.Event == "refused" && (e.Status == 401 || e.Status == 403) })
}
