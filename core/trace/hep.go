package trace

import (
	"bytes"
	"context"
	"io"
	"net/netip"

	"fernamt/wire/hep"
	"fernamt/wire/sip"
)

// Export says where captured messages go.
type Export struct {
	To    io.Writer // a datagram socket: one Write is one packet
	Agent uint32    // the number HOMER knows us by
	Node  string    // and the name
	Key   string    // what the collector wants to see, or ""
	Sent  *Counter
	Lost  *Counter // queue full, or the socket refused
}

// Export sends every message, secrets starred, as HEP version 3 until ctx ends.
func (h *Hub) Export(ctx context.Context, x Export) {
	ear := h.Listen("", 1024)
	defer ear.Close()
	var buf []byte
	var lost uint64
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-ear.C:
			buf = hep.Append(buf[:0], packet(&m, &x))
			if _, err := x.To.Write(buf); err != nil {
				x.Lost.Inc()
			} else {
				x.Sent.Inc()
			}
			if n := ear.Lost.Load(); n != lost {
				x.Lost.Add(n - lost)
				lost = n
			}
		}
	}
}

func packet(m *Message, x *Export) *hep.Packet {
	p := &hep.Packet{Time: m.Time, Source: m.Remote, Destination: m.Local, IPProtocol: hep.TCP,
		Protocol: hep.SIP, Agent: x.Agent, Node: x.Node, Key: x.Key, Correlation: callID(m.Bytes),
		Payload: m.Bytes}
	if m.Out {
		p.Source, p.Destination = m.Local, m.Remote
	}
	if m.Transport == sip.UDP {
		p.IPProtocol = hep.UDP
	}
	// A socket on all addresses does not say which it used; HOMER wants one family.
	if s, d := p.Source.Addr(), p.Destination.Addr(); s.IsUnspecified() && d.Unmap().Is4() {
		p.Source = netip.AddrPortFrom(netip.IPv4Unspecified(), p.Source.Port())
	} else if d.IsUnspecified() && s.Unmap().Is4() {
		p.Destination = netip.AddrPortFrom(netip.IPv4Unspecified(), p.Destination.Port())
	}
	return p
}

// callID finds the Call-ID without parsing the rest.
func callID(b []byte) string {
	for len(b) > 0 {
		line := b
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		line = bytes.TrimRight(line, "\r")
		if len(line) == 0 {
			return ""
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		name = bytes.TrimSpace(name)
		if ok && (bytes.EqualFold(name, []byte("call-id")) || bytes.EqualFold(name, []byte("i"))) {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}
