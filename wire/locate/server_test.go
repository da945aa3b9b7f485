package locate

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// zone is a DNS server on loopback with the records of a text.
type zone struct {
	mu      sync.Mutex
	records []dns.RR
	soa     dns.RR
	asked   map[string]int
	delay   atomic.Int64
	silent  atomic.Bool
	broken  atomic.Bool
	big     atomic.Bool // cut what goes over UDP
	addr    netip.AddrPort
}

func serve(t *testing.T, text string) *zone {
	z := &zone{asked: map[string]int{}}
	z.set(t, text)
	pc, ln := sockets(t)
	z.addr = pc.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: z}, {Listener: ln, Handler: z}} {
		go s.ActivateAndServe()
		t.Cleanup(func() { s.Shutdown() })
	}
	return z
}

// sockets gives a UDP and a TCP socket of the same number.
func sockets(t *testing.T) (net.PacketConn, net.Listener) {
	for range 50 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		is.NoErr(t, err)
		if ln, err := net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			return pc, ln
		}
		pc.Close() // somebody has that number on TCP
	}
	t.Fatal("no number is free on both UDP and TCP")
	return nil, nil
}

func (z *zone) set(t *testing.T, text string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records = nil
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		rr, err := dns.NewRR(line)
		is.NoErr(t, err, line)
		if rr.Header().Rrtype == dns.TypeSOA {
			z.soa = rr
			continue
		}
		z.records = append(z.records, rr)
	}
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	if z.silent.Load() {
		return
	}
	time.Sleep(time.Duration(z.delay.Load()))
	z.mu.Lock()
	defer z.mu.Unlock()
	name, kind := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	z.asked[strings.TrimSuffix(name, ".")+" "+dns.TypeToString[kind]]++
	m := new(dns.Msg)
	m.SetReply(q)
	if z.broken.Load() {
		m.Rcode = dns.RcodeServerFailure
		w.WriteMsg(m)
		return
	}
	exists := false
	for _, rr := range z.records {
		if strings.ToLower(rr.Header().Name) != name {
			continue
		}
		exists = true
		if t := rr.Header().Rrtype; t == kind || t == dns.TypeCNAME {
			m.Answer = append(m.Answer, rr)
		}
	}
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 && z.soa != nil {
		m.Ns = []dns.RR{z.soa}
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp && z.big.Load() {
		m.Truncated, m.Answer = true, nil
	}
	w.WriteMsg(m)
}

func (z *zone) count(question string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked[question]
}

func (z *zone) total() (n int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, k := range z.asked {
		n += k
	}
	return n
}

// exchange is how a program sends DNS messages, here straight on loopback.
func exchange(ctx context.Context, msg []byte, server netip.AddrPort, tcp bool) ([]byte, error) {
	network := "udp"
	if tcp {
		network = "tcp"
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if t, ok := ctx.Deadline(); ok {
		c.SetDeadline(t)
	}
	if tcp {
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)); err != nil {
			return nil, err
		}
		var n [2]byte
		if _, err := io.ReadFull(c, n[:]); err != nil {
			return nil, err
		}
		b := make([]byte, binary.BigEndian.Uint16(n[:]))
		_, err := io.ReadFull(c, b)
		return b, err
	}
	if _, err := c.Write(msg); err != nil {
		return nil, err
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	return b[:n], err
}

func (z *zone) resolver(c Config) *Resolver {
	if c.Servers == nil {
		c.Servers = []netip.AddrPort{z.addr}
	}
	c.Exchange = exchange
	if c.Patience == 0 {
		c.Patience = 150 * time.Millisecond
	}
	return New(c)
}

// locate gives the hops in short: "UDP 192.0.2.1:5060".
func locate(t *testing.T, r *Resolver, uri string) (hops []string, err error) {
	t.Helper()
	u, err := sip.ParseURI([]byte(uri))
	is.NoErr(t, err, uri)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	list, err := r.Locate(ctx, u)
	return short(list), err
}

func short(list []sip.Hop) (hops []string) {
	for _, h := range list {
		hops = append(hops, h.Transport.String()+" "+h.Addr.String()+" "+h.Host)
	}
	return hops
}
