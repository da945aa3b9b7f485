package interop

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// linphone is a running linphone-daemon, driven by lines on its standard input.
type linphone struct {
	*program
	phone
	passed map[int]int // call → how many of its events await has passed
}

const linphoneConfig = `[sip]
sip_port=%[1]d
sip_tcp_port=%[1]d
sip_tls_port=%[1]d
bind_address=127.0.0.1
use_ipv6=0
guess_hostname=0
root_ca=%[2]s
verify_server_certs=1
verify_server_cn=0
default_proxy=0
media_encryption=none
[rtp]
audio_rtp_port=%[3]d
[net]
firewall_policy=0
[lime]
enabled=0
[auth_info_0]
username=%[4]s
domain=%[5]s
passwd=%[6]s
[proxy_0]
reg_proxy=<sip:%[7]s;transport=%[8]s>
reg_route=<sip:%[7]s;transport=%[8]s;lr>
reg_identity=sip:%[4]s@%[5]s
reg_sendregister=1
reg_expires=600
realm=%[5]s
`

func startLinphone(t *testing.T, ph phone) *linphone {
	t.Helper()
	need(t, "linphone-daemon")
	home, base := t.TempDir(), ports(t, 6)
	for _, d := range []string{".local/share/linphone", ".config/linphone"} { // it will not make them
		if err := os.MkdirAll(filepath.Join(home, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	rc := filepath.Join(home, "rc")
	user, host, _ := strings.Cut(ph.address, "@")
	config := fmt.Appendf(nil, linphoneConfig, base, ph.ca, base+2, user, host, ph.password, ph.server, ph.transport)
	if err := os.WriteFile(rc, config, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--config", rc, "--log", filepath.Join(home, "log")}
	if ph.auto {
		args = append(args, "--auto-answer")
	}
	l := &linphone{phone: ph, passed: map[int]int{}}
	l.program = start(t, launch{dir: home, env: []string{"HOME=" + home}, in: true}, "linphone-daemon", args...)
	t.Cleanup(func() {
		l.stop()
		if t.Failed() {
			t.Logf("linphone %s said:\n%s", ph.address, tail(l.output()))
		}
	})
	l.do(t, "version")
	return l
}

// do gives a command and waits until the daemon has taken it.
func (l *linphone) do(t *testing.T, command string) {
	t.Helper()
	before := len(l.output())
	if _, err := io.WriteString(l.in, command+"\n"); err != nil {
		t.Fatalf("linphone: %s: %v", command, err)
	}
	word, _, _ := strings.Cut(command, " ")
	until(t, 15*time.Second, "linphone to take "+word, func() bool {
		said := l.output()[before:]
		if strings.Contains(said, "Status: Error") {
			t.Fatalf("linphone %s: %s: %s", l.address, word, said)
		}
		return strings.Contains(said, "Status: Ok")
	})
}

// play lets the other side of a call hear a tone.
func (l *linphone) play(t *testing.T, call int, hz float64) {
	t.Helper()
	file := filepath.Join(l.cmd.Dir, fmt.Sprintf("tone%v.wav", hz))
	writeTone(t, file, hz)
	l.do(t, fmt.Sprintf("incall-player-start %s %d", file, call))
}

func (l *linphone) registered(t *testing.T) *linphone {
	t.Helper()
	until(t, 20*time.Second, l.address+" to be registered", func() bool {
		if strings.Contains(l.output(), "LinphoneRegistrationOk") {
			return true
		}
		l.do(t, "register-status ALL")
		return false
	})
	return l
}

// await waits for a call's next change to a state: LinphoneCallStreamsRunning.
func (l *linphone) await(t *testing.T, call int, state string) {
	t.Helper()
	until(t, 20*time.Second, fmt.Sprintf("%s: call %d in state %s", l.address, call, state), func() bool {
		n := 0
		for event := range strings.SplitSeq(l.output(), "Event-type: call-state-changed") {
			if !strings.Contains(event, fmt.Sprintf("Id: %d\n", call)) {
				continue
			}
			if n++; n > l.passed[call] && strings.Contains(event, "Event: "+state+"\n") {
				l.passed[call] = n
				return true
			}
		}
		return false
	})
}
