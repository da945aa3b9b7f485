package interop

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"fernamt/test/is"
)

// startDNS answers from a list of records in zone-file form, over UDP and TCP; for
// every other name there is none.
func startDNS(t *testing.T, port int, records ...string) {
	t.Helper()
	zone := map[string][]dns.RR{}
	for _, r := range records {
		rr, err := dns.NewRR(r)
		is.NoErr(t, err, r)
		key := fmt.Sprint(strings.ToLower(rr.Header().Name), rr.Header().Rrtype)
		zone[key] = append(zone[key], rr)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Answer = zone[fmt.Sprint(strings.ToLower(q.Question[0].Name), q.Question[0].Qtype)]
		if m.Answer == nil {
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	})
	pc, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
	is.NoErr(t, err)
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	is.NoErr(t, err)
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: ln, Handler: handler}} {
		go func() { _ = s.ActivateAndServe() }()
		t.Cleanup(func() { _ = s.Shutdown() })
	}
}

// peers starts Kamailio for peer.test beside a lab that finds it by DNS alone: by
// NAPTR and SRV over TCP, where the first server is dead, and by SRV over UDP.
func peers(t *testing.T) (l *lab, kamailio string) {
	need(t, "kamailio", "baresip")
	base := ports(t, 4)
	kam, dead, name := base, base+1, base+2
	startDNS(t, name,
		`peer.test. 60 IN NAPTR 10 10 "s" "SIP+D2T" "" _sip._tcp.peer.test.`,
		fmt.Sprintf("_sip._tcp.peer.test. 60 IN SRV 10 0 %d dead.peer.test.", dead),
		fmt.Sprintf("_sip._tcp.peer.test. 60 IN SRV 20 0 %d kam.peer.test.", kam),
		fmt.Sprintf("_sip._udp.peer.test. 60 IN SRV 20 0 %d kam.peer.test.", kam),
		"dead.peer.test. 60 IN A 127.0.0.1", "kam.peer.test. 60 IN A 127.0.0.1")
	l = labWith(t, func(toml string) string {
		toml = setting(t, toml, "dns", "servers", fmt.Sprintf(`["127.0.0.1:%d"]`, name))
		return setting(t, toml, "frontend", "trusted", `["127.0.0.1"]`) // the peer has no certificate
	}).during(t)
	startKamailio(t, "peer.test", kam, l.addr("sip"))
	return l, fmt.Sprintf("127.0.0.1:%d", kam)
}

// TestKamailioPeer: a phone at another domain's proxy and a phone here call each
// other, through both proxies. baresip asks for UDP in the address that it dials.
func TestKamailioPeer(t *testing.T) {
	l, kamailio := peers(t)
	there := phone{address: "erna@peer.test", password: "x", server: kamailio, transport: "udp", codec: pcmu, tone: 1500, auto: true}
	erna := startBaresip(t, there).registered(t)
	ph := l.phone("bob", "udp", pcmu, 1000)
	ph.auto = true
	bob := startBaresip(t, ph).registered(t)
	bob.do(t, "dial", "sip:erna@peer.test")
	bob.await(t, "CALL_ESTABLISHED")
	erna.await(t, "CALL_ESTABLISHED")
	bob.hears(t, 1500)
	erna.hears(t, 1000)
	erna.do(t, "hangup", "")
	bob.await(t, "CALL_CLOSED")
	erna.await(t, "CALL_CLOSED")

	erna.do(t, "dial", "sip:bob@"+l.Domain)
	erna.await(t, "CALL_ESTABLISHED")
	erna.hears(t, 1000)
	bob.do(t, "hangup", "")
	erna.await(t, "CALL_CLOSED")
}

// TestKamailioFailover: NAPTR says TCP, SRV's first server refuses the connection,
// the second takes the message, and the phone there reads it.
func TestKamailioFailover(t *testing.T) {
	l, kamailio := peers(t)
	there := phone{address: "erna@peer.test", password: "x", server: kamailio, transport: "tcp", codec: pcmu, tone: 1500}
	erna := startBaresip(t, there).registered(t)
	alice := openRaw(t, l.addr("sip"))
	answer := alice.as(t, l.account("alice"), 10*time.Second, ask{"MESSAGE", "sip:erna@peer.test", "sip:erna@peer.test", []string{"Content-Type: text/plain", "\r\nfound by DNS"}})
	is.Equal(t, status(answer), 200, answer)
	erna.reads(t, "sip:alice@"+l.Domain, "found by DNS")
}

// TestSipsak: sipsak asks, registers and writes.
func TestSipsak(t *testing.T) {
	need(t, "sipsak")
	l := fresh(t)
	secret(l.password("carol"))
	port := fmt.Sprint(l.Ports["sip"])
	sipsak := func(args ...string) {
		t.Helper()
		out, status := run(t, 20*time.Second, "sipsak", append([]string{"-vv", "-r", port}, args...)...)
		if status != 0 {
			t.Errorf("sipsak %v: exit %d\n%s", args[:2], status, out)
		}
	}
	sipsak("-p", "127.0.0.1", "-s", "sip:"+l.Domain)
	sipsak("-U", "-u", "carol", "-a", l.password("carol"), "-C", "sip:carol@127.0.0.1:9", "-x", "300", "-p", "127.0.0.1", "-s", "sip:carol@"+l.Domain)
	out, _ := l.command(t, "dump", "registrations")
	is.True(t, strings.Contains(out, "carol@127.0.0.1:9"), "carol is not registered: "+out)
	carol := openRaw(t, l.addr("sip"))
	carol.register(t, l.account("carol"), 300)
	done := make(chan string, 1)
	go func() {
		m := carol.next(10 * time.Second)
		_, _ = carol.WriteTo([]byte(reply(m, 200, "c")), carol.server)
		done <- m
	}()
	// Debian's sipsak -M dies by itself on its command line; a message from a file goes.
	file := filepath.Join(t.TempDir(), "message")
	is.NoErr(t, os.WriteFile(file, fmt.Appendf(nil, sipsakMessage, l.Domain, carol.port()), 0o600))
	sipsak("-f", file, "-u", "alice", "-a", l.password("alice"), "-p", "127.0.0.1", "-s", "sip:carol@"+l.Domain)
	if m := <-done; !strings.Contains(m, "hello from sipsak") {
		t.Errorf("carol got\n%s", m)
	}
}

const sipsakMessage = `MESSAGE sip:carol@%[1]s SIP/2.0
From: <sip:alice@%[1]s>;tag=7
To: <sip:carol@%[1]s>
Call-ID: sipsak-%[2]d@test
CSeq: 1 MESSAGE
Max-Forwards: 70
Content-Type: text/plain
Content-Length: 17

hello from sipsak
`
