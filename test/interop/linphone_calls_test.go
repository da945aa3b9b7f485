package interop

import "testing"

// TestLinphoneCalls: linphone registers, calls a baresip, holds and hangs up.
func TestLinphoneCalls(t *testing.T) {
	need(t, "linphone-daemon", "baresip")
	for _, transport := range []string{"udp", "tcp", "tls"} {
		t.Run(transport, func(t *testing.T) { linphoneCalls(t, fresh(t), transport) })
	}
}

func linphoneCalls(t *testing.T, l *lab, transport string) {
	carol := startLinphone(t, l.phone("carol", transport, "", 0)).registered(t)
	ph := l.phone("bob", "udp", pcmu, 1000)
	ph.auto = true
	bob := startBaresip(t, ph).registered(t)
	carol.do(t, "call sip:bob@"+l.Domain)
	carol.await(t, 1, "LinphoneCallStreamsRunning")
	bob.await(t, "CALL_ESTABLISHED")
	carol.play(t, 1, 700)
	bob.hears(t, 700)
	carol.do(t, "call-pause 1")
	carol.await(t, 1, "LinphoneCallPaused")
	bob.streams(t, false, "recvonly")
	carol.do(t, "call-resume 1")
	carol.await(t, 1, "LinphoneCallStreamsRunning")
	carol.do(t, "terminate 1")
	bob.await(t, "CALL_CLOSED")
}

// TestLinphoneIsCalled: the call the other way round.
func TestLinphoneIsCalled(t *testing.T) { linphoneIsCalled(t, fresh(t)) }

func linphoneIsCalled(t *testing.T, l *lab) {
	ph := l.phone("carol", "tcp", "", 0)
	ph.auto = true
	carol := startLinphone(t, ph).registered(t)
	bob := startBaresip(t, l.phone("bob", "udp", pcmu, 1000)).registered(t)
	bob.do(t, "dial", "sip:carol@"+l.Domain)
	bob.await(t, "CALL_ESTABLISHED")
	carol.await(t, 1, "LinphoneCallStreamsRunning")
	bob.do(t, "hangup", "")
	carol.await(t, 1, "LinphoneCallEnd")
}

// TestAttendedTransfer: carol's linphone talks to bob, asks dave, and joins the
// two: REFER with Replaces.
func TestAttendedTransfer(t *testing.T) { attendedTransfer(t, fresh(t)) }

func attendedTransfer(t *testing.T, l *lab) {
	carol := startLinphone(t, l.phone("carol", "tcp", "", 0)).registered(t)
	ph := l.phone("bob", "udp", "", 0)
	ph.auto = true
	bob := startLinphone(t, ph).registered(t)
	ph = l.phone("dave", "tcp", "", 0)
	ph.auto = true
	dave := startLinphone(t, ph).registered(t)
	carol.do(t, "call sip:bob@"+l.Domain)
	carol.await(t, 1, "LinphoneCallStreamsRunning")
	carol.do(t, "call-pause 1")
	carol.await(t, 1, "LinphoneCallPaused")
	carol.do(t, "call sip:dave@"+l.Domain)
	carol.await(t, 2, "LinphoneCallStreamsRunning")
	carol.do(t, "call-transfer 1 2")
	bob.await(t, 2, "LinphoneCallStreamsRunning")
	dave.await(t, 2, "LinphoneCallStreamsRunning") // in the place of her first
	dave.await(t, 1, "LinphoneCallEnd")
	carol.await(t, 1, "LinphoneCallEnd")
	carol.await(t, 2, "LinphoneCallEnd")
	bob.do(t, "terminate 2")
	dave.await(t, 2, "LinphoneCallEnd")
}

// TestLinphoneWrites: MESSAGE from linphone to baresip.
func TestLinphoneWrites(t *testing.T) { linphoneWrites(t, fresh(t)) }

func linphoneWrites(t *testing.T, l *lab) {
	carol := startLinphone(t, l.phone("carol", "tcp", "", 0)).registered(t)
	bob := startBaresip(t, l.phone("bob", "udp", pcmu, 1000)).registered(t)
	carol.do(t, "message sip:bob@"+l.Domain+" good morning from linphone")
	bob.reads(t, "sip:carol@"+l.Domain, "good morning from linphone")
}
