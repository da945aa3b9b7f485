package interop

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// phone says who a softphone is and how it reaches the server.
type phone struct {
	address   string // alice@example.test
	password  string
	server    string // 127.0.0.1:5060
	transport string // udp, tcp, tls
	ca        string // for tls
	codec     string // PCMU/8000/1, opus/48000/2
	tone      int    // Hz, what its microphone hears
	auto      bool   // answers by itself
	unreg     bool   // does not register
}

// baresip is a running softphone, driven over its control port.
type baresip struct {
	*program
	phone
	dir, host string
	port      int

	mu     sync.Mutex
	ctrl   net.Conn
	events []bareEvent
	seen   int // events that await has passed
	answer chan bareEvent
}

// bareEvent is a line of the control port: an event, or the answer to a command.
type bareEvent struct {
	Event    bool
	Response bool
	Ok       bool
	Type     string
	Param    string
	Data     string
	PeerURI  string
}

const bareConfig = `poll_method epoll
sip_listen 127.0.0.1:%[1]d
%[2]s
call_local_timeout 60
call_max_calls 4
audio_player aubridge,null
audio_source ausine,%[3]d
audio_alert aubridge,alert
ausrc_srate 48000
auplay_srate 48000
ausrc_channels 2
auplay_channels 2
rtp_ports %[4]d-%[5]d
net_interface 127.0.0.1
module_path /usr/lib/baresip/modules
module stdio.so
module g711.so
module opus.so
module aubridge.so
module ausine.so
module sndfile.so
module_tmp account.so
module_app contact.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:%[6]d
snd_path %[7]s
statmode_default off
`

func startBaresip(t *testing.T, ph phone) *baresip {
	t.Helper()
	need(t, "baresip")
	base := ports(t, 20) // SIP, TLS, control, then RTP pairs
	b := &baresip{phone: ph, dir: t.TempDir(), port: base, answer: make(chan bareEvent, 1)}
	ca := ""
	if ph.ca != "" {
		ca = "sip_cafile " + ph.ca
	}
	config := fmt.Sprintf(bareConfig, base, ca, ph.tone, base+4, base+19, base+2, b.dir)
	_, b.host, _ = strings.Cut(ph.address, "@")
	user, _, _ := strings.Cut(ph.address, "@")
	answer, regint := "manual", 60
	if ph.auto {
		answer = "auto"
	}
	if ph.unreg {
		regint = 0
	}
	account := fmt.Sprintf("<sip:%s;transport=%s>;auth_user=%s;auth_pass=%s;outbound=\"sip:%s;transport=%s\";regint=%d;answermode=%s;audio_codecs=%s\n",
		ph.address, ph.transport, user, ph.password, ph.server, ph.transport, regint, answer, ph.codec)
	for name, text := range map[string]string{"config": config, "accounts": account, "contacts": contacts(b.host), "current_contact": ""} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.program = start(t, launch{in: true}, "baresip", "-f", b.dir)
	t.Cleanup(func() {
		b.stop()
		if t.Failed() {
			t.Logf("baresip %s said:\n%s\nevents: %+v", ph.address, tail(b.output()), b.events)
		}
	})
	b.connect(t, base+2)
	return b
}

// contacts lists who can be written to: baresip sends messages to contacts only.
func contacts(host string) string {
	var s strings.Builder
	for _, u := range []string{"alice", "bob", "carol", "dave"} {
		fmt.Fprintf(&s, "\"%s\" <sip:%s@%s>\n", u, u, host)
	}
	return s.String()
}

func (b *baresip) connect(t *testing.T, port int) {
	t.Helper()
	until(t, 10*time.Second, "baresip's control port", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		b.ctrl = c
		return err == nil
	})
	go b.listen()
}

// listen reads netstrings: 12:{"event":…},
func (b *baresip) listen() {
	var buf []byte
	chunk := make([]byte, 8192)
	for {
		n, err := b.ctrl.Read(chunk)
		if err != nil {
			return
		}
		buf = append(buf, chunk[:n]...)
		for {
			head, rest, ok := strings.Cut(string(buf), ":")
			size, err := strconv.Atoi(head)
			if !ok || err != nil || len(rest) < size+1 {
				break
			}
			buf = []byte(rest[size+1:])
			var e bareEvent
			if json.Unmarshal([]byte(rest[:size]), &e) == nil {
				b.take(e)
			}
		}
	}
}

func (b *baresip) take(e bareEvent) {
	if e.Response {
		b.answer <- e
		return
	}
	b.mu.Lock()
	b.events = append(b.events, e)
	b.mu.Unlock()
}

// do gives a command and waits for its answer.
func (b *baresip) do(t *testing.T, command, params string) string {
	t.Helper()
	j, _ := json.Marshal(map[string]string{"command": command, "params": params, "token": "t"})
	if _, err := fmt.Fprintf(b.ctrl, "%d:%s,", len(j), j); err != nil {
		t.Fatalf("baresip %s: %s: %v", b.address, command, err)
	}
	select {
	case e := <-b.answer:
		return e.Data
	case <-time.After(10 * time.Second):
		t.Fatalf("baresip %s: no answer to %s", b.address, command)
		return ""
	}
}

// write sends a message to a user: baresip walks through its contacts.
func (b *baresip) write(t *testing.T, user, text string) {
	t.Helper()
	for range 8 {
		b.do(t, "contact_next", "")
		if said, _ := os.ReadFile(filepath.Join(b.dir, "current_contact")); strings.Contains(string(said), "sip:"+user+"@") {
			b.do(t, "message", text)
			return
		}
	}
	t.Fatalf("baresip has no contact %s", user)
}

// reads waits for a message. Only the terminal tells of it: address: "text".
func (b *baresip) reads(t *testing.T, from, text string) {
	t.Helper()
	until(t, 15*time.Second, fmt.Sprintf("%s to read %q", b.address, text), func() bool {
		return strings.Contains(b.output(), fmt.Sprintf("%s: \"%s\"", from, text))
	})
}

// registered waits for the server's word. It may have come before the control
// port was there, so the output tells.
func (b *baresip) registered(t *testing.T) *baresip {
	t.Helper()
	until(t, 15*time.Second, b.address+" to be registered", func() bool {
		return strings.Contains(b.output(), b.address+": {0/"+strings.ToUpper(b.transport)+"/v4} 200 ")
	})
	return b
}

// await waits for the next event of a type, passing over others.
func (b *baresip) await(t *testing.T, kind string) bareEvent {
	t.Helper()
	var got bareEvent
	until(t, 15*time.Second, b.address+": "+kind, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for b.seen < len(b.events) {
			got = b.events[b.seen]
			b.seen++
			if got.Type == kind {
				return true
			}
		}
		return false
	})
	return got
}

// hears waits until half a second more has come in, and it holds the tone.
func (b *baresip) hears(t *testing.T, hz int) {
	t.Helper()
	file := b.newest()
	before, _ := readWAV(file)
	until(t, 15*time.Second, fmt.Sprintf("%s to hear %d Hz", b.address, hz), func() bool {
		now := b.newest()
		s, err := readWAV(now)
		fresh := now != file || len(s.samples) >= len(before.samples)+s.rate/2
		return err == nil && fresh && s.share(float64(hz)) > 0.8
	})
}

// stream tells the direction of the call's audio and how many packets came in.
// (baresip 1.0.0 records no more after a hold, so the tone cannot tell.)
func (b *baresip) stream(t *testing.T) (direction string, packets int) {
	t.Helper()
	said := b.do(t, "audio_debug", "")
	if m := regexp.MustCompile(`audio dir=(\w+)`).FindStringSubmatch(said); m != nil {
		direction = m[1]
	}
	if m := regexp.MustCompile(`rcvd=(\d+)`).FindStringSubmatch(said); m != nil {
		packets, _ = strconv.Atoi(m[1])
	}
	return direction, packets
}

// streams waits until audio comes in, or until none does any more.
func (b *baresip) streams(t *testing.T, flowing bool, direction string) {
	t.Helper()
	_, before := b.stream(t)
	until(t, 15*time.Second, fmt.Sprintf("%s: audio flowing=%v, %s", b.address, flowing, direction), func() bool {
		time.Sleep(500 * time.Millisecond)
		dir, now := b.stream(t)
		ok := dir == direction && (now >= before+10) == flowing && (flowing || now == before)
		before = now
		return ok
	})
}

// newest is the recording that was written to last.
func (b *baresip) newest() (file string) {
	files, _ := filepath.Glob(filepath.Join(b.dir, "dump-*-dec.wav"))
	var last time.Time
	for _, f := range files {
		if st, err := os.Stat(f); err == nil && !st.ModTime().Before(last) {
			file, last = f, st.ModTime()
		}
	}
	return file
}
