package interop

import (
	"testing"
)

const (
	pcmu = "PCMU/8000/1"
	opus = "opus/48000/2"
)

// TestBaresipCalls: two baresips register over each transport and talk with each
// codec; the tone that one plays is found in what the other recorded.
func TestBaresipCalls(t *testing.T) {
	need(t, "baresip")
	for _, c := range []struct{ name, from, to, codec string }{
		{"UDP to UDP, PCMU", "udp", "udp", pcmu},
		{"UDP to TCP, Opus", "udp", "tcp", opus},
		{"TCP to TLS, PCMU", "tcp", "tls", pcmu},
		{"TLS to UDP, Opus", "tls", "udp", opus},
	} {
		t.Run(c.name, func(t *testing.T) { talk(t, fresh(t), c.from, c.to, c.codec) })
	}
}

func talk(t *testing.T, l *lab, from, to, codec string) {
	alice := startBaresip(t, l.phone("alice", from, codec, 440))
	ph := l.phone("bob", to, codec, 1000)
	ph.auto = true
	bob := startBaresip(t, ph)
	alice.registered(t)
	bob.registered(t)
	alice.do(t, "dial", "sip:bob@"+l.Domain)
	alice.await(t, "CALL_ESTABLISHED")
	bob.await(t, "CALL_ESTABLISHED")
	alice.hears(t, 1000)
	bob.hears(t, 440)
	alice.do(t, "hangup", "")
	bob.await(t, "CALL_CLOSED")
}

// TestBaresipCalleeHangsUp: the BYE travels the other way too.
func TestBaresipCalleeHangsUp(t *testing.T) { calleeHangsUp(t, fresh(t)) }

func calleeHangsUp(t *testing.T, l *lab) {
	alice := startBaresip(t, l.phone("alice", "tcp", pcmu, 440))
	bob := startBaresip(t, l.phone("bob", "udp", pcmu, 1000))
	alice.registered(t)
	bob.registered(t)
	alice.do(t, "dial", "sip:bob@"+l.Domain)
	bob.await(t, "CALL_INCOMING")
	alice.await(t, "CALL_RINGING")
	bob.do(t, "accept", "")
	alice.await(t, "CALL_ESTABLISHED")
	alice.hears(t, 1000)
	bob.do(t, "hangup", "")
	alice.await(t, "CALL_CLOSED")
}

// TestBaresipDeclines: a refusal comes back, and so does a caller's change of mind.
func TestBaresipDeclines(t *testing.T) { declines(t, fresh(t)) }

func declines(t *testing.T, l *lab) {
	alice := startBaresip(t, l.phone("alice", "udp", pcmu, 440))
	bob := startBaresip(t, l.phone("bob", "tcp", pcmu, 1000))
	alice.registered(t)
	bob.registered(t)
	alice.do(t, "dial", "sip:bob@"+l.Domain)
	bob.await(t, "CALL_INCOMING")
	bob.do(t, "hangup", "")
	alice.await(t, "CALL_CLOSED")
	alice.do(t, "dial", "sip:bob@"+l.Domain)
	bob.await(t, "CALL_INCOMING")
	alice.do(t, "hangup", "") // CANCEL
	bob.await(t, "CALL_CLOSED")
}

// TestBaresipHold: re-INVITEs pass both ways; audio stops and comes back.
func TestBaresipHold(t *testing.T) { hold(t, fresh(t)) }

func hold(t *testing.T, l *lab) {
	alice := startBaresip(t, l.phone("alice", "udp", pcmu, 440))
	ph := l.phone("bob", "tcp", pcmu, 1000)
	ph.auto = true
	bob := startBaresip(t, ph)
	alice.registered(t)
	bob.registered(t)
	alice.do(t, "dial", "sip:bob@"+l.Domain)
	bob.await(t, "CALL_ESTABLISHED")
	bob.hears(t, 440)
	alice.do(t, "hold", "")
	bob.streams(t, false, "recvonly")
	alice.do(t, "resume", "")
	bob.streams(t, true, "sendrecv")
	bob.do(t, "hold", "")
	alice.streams(t, false, "recvonly")
	bob.do(t, "resume", "")
	alice.streams(t, true, "sendrecv")
	alice.do(t, "hangup", "")
	bob.await(t, "CALL_CLOSED")
}

// TestBaresipBlindTransfer: bob sends alice on to carol.
func TestBaresipBlindTransfer(t *testing.T) { blindTransfer(t, fresh(t)) }

func blindTransfer(t *testing.T, l *lab) {
	alice := startBaresip(t, l.phone("alice", "udp", pcmu, 440))
	ph := l.phone("bob", "tcp", pcmu, 1000)
	ph.auto = true
	bob := startBaresip(t, ph)
	ph = l.phone("carol", "udp", pcmu, 2000)
	ph.auto = true
	carol := startBaresip(t, ph)
	for _, b := range []*baresip{alice, bob, carol} {
		b.registered(t)
	}
	alice.do(t, "dial", "sip:bob@"+l.Domain)
	bob.await(t, "CALL_ESTABLISHED")
	alice.hears(t, 1000)
	bob.do(t, "transfer", "sip:carol@"+l.Domain)
	carol.await(t, "CALL_ESTABLISHED")
	carol.hears(t, 440)
	alice.hears(t, 2000)
	bob.await(t, "CALL_CLOSED")
}

// TestBaresipMessage: MESSAGE over each transport, umlauts and all.
func TestBaresipMessage(t *testing.T) { message(t, fresh(t), "tls") }

func message(t *testing.T, l *lab, transport string) {
	alice := startBaresip(t, l.phone("alice", "udp", pcmu, 440))
	bob := startBaresip(t, l.phone("bob", transport, pcmu, 1000))
	alice.registered(t)
	bob.registered(t)
	alice.write(t, "bob", "Grüße über UDP")
	bob.reads(t, "sip:alice@"+l.Domain, "Grüße über UDP")
	bob.write(t, "alice", "and back")
	alice.reads(t, "sip:bob@"+l.Domain, "and back")
}
