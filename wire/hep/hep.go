// Package hep is the Homer Encapsulation Protocol, version 3: one captured packet
// with its addresses and time as a row of chunks in one datagram. Written after
// "HEP3 Network Protocol Specification", rev. 36 (sipcapture). It has no goroutines
// and no state.
package hep

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// The protocols a packet may be, chunk 0x000b.
const (
	SIP  = 1
	SDP  = 3
	RTP  = 4
	RTCP = 5
	LOG  = 100
)

// IP protocol numbers, chunk 0x0002.
const (
	TCP = 6
	UDP = 17
)

// Packet is what one datagram says.
type Packet struct {
	Time        time.Time // to the microsecond
	Source      netip.AddrPort
	Destination netip.AddrPort
	IPProtocol  uint8  // TCP or UDP
	Protocol    uint8  // SIP, …
	Agent       uint32 // who captured it
	Node        string // its name; may be empty
	Key         string // what the collector wants to see; may be empty
	Correlation string // Call-ID or the like; may be empty
	Payload     []byte
}

// Chunk types of vendor 0 (generic).
const (
	chunkFamily      = 0x01
	chunkIPProtocol  = 0x02
	chunkSource4     = 0x03
	chunkDest4       = 0x04
	chunkSource6     = 0x05
	chunkDest6       = 0x06
	chunkSourcePort  = 0x07
	chunkDestPort    = 0x08
	chunkSeconds     = 0x09
	chunkMicros      = 0x0a
	chunkProtocol    = 0x0b
	chunkAgent       = 0x0c
	chunkKey         = 0x0e
	chunkPayload     = 0x0f
	chunkCorrelation = 0x11
	chunkNode        = 0x13
)

const (
	familyIPv4 = 2
	familyIPv6 = 10
	maxPayload = 65000
)

var magic = [4]byte{'H', 'E', 'P', '3'}

// Append adds p as one datagram to dst. A payload beyond 65,000 octets is cut.
func Append(dst []byte, p *Packet) []byte {
	start := len(dst)
	dst = append(dst, magic[:]...)
	dst = append(dst, 0, 0) // length, at the end
	src, to := p.Source.Addr().Unmap(), p.Destination.Addr().Unmap()
	v6 := src.Is6() || to.Is6()
	if v6 {
		dst = chunk8(dst, chunkFamily, familyIPv6)
	} else {
		dst = chunk8(dst, chunkFamily, familyIPv4)
	}
	dst = chunk8(dst, chunkIPProtocol, p.IPProtocol)
	if v6 {
		s, d := src.As16(), to.As16()
		dst = chunk(dst, chunkSource6, s[:])
		dst = chunk(dst, chunkDest6, d[:])
	} else {
		s, d := four(src), four(to)
		dst = chunk(dst, chunkSource4, s[:])
		dst = chunk(dst, chunkDest4, d[:])
	}
	dst = chunk16(dst, chunkSourcePort, p.Source.Port())
	dst = chunk16(dst, chunkDestPort, p.Destination.Port())
	dst = chunk32(dst, chunkSeconds, uint32(p.Time.Unix()))
	dst = chunk32(dst, chunkMicros, uint32(p.Time.Nanosecond()/1000))
	dst = chunk8(dst, chunkProtocol, p.Protocol)
	dst = chunk32(dst, chunkAgent, p.Agent)
	for _, t := range []struct {
		id   uint16
		text string
	}{{chunkKey, p.Key}, {chunkCorrelation, p.Correlation}, {chunkNode, p.Node}} {
		if t.text != "" {
			dst = chunk(dst, t.id, []byte(t.text[:min(len(t.text), 255)]))
		}
	}
	dst = chunk(dst, chunkPayload, p.Payload[:min(len(p.Payload), maxPayload-(len(dst)-start))])
	binary.BigEndian.PutUint16(dst[start+4:], uint16(len(dst)-start))
	return dst
}

// four gives an invalid address as 0.0.0.0.
func four(a netip.Addr) [4]byte {
	if !a.Is4() {
		return [4]byte{}
	}
	return a.As4()
}

func head(dst []byte, id uint16, n int) []byte {
	dst = binary.BigEndian.AppendUint16(dst, 0) // vendor: generic
	dst = binary.BigEndian.AppendUint16(dst, id)
	return binary.BigEndian.AppendUint16(dst, uint16(6+n))
}

func chunk(dst []byte, id uint16, v []byte) []byte { return append(head(dst, id, len(v)), v...) }

func chunk8(dst []byte, id uint16, v uint8) []byte { return append(head(dst, id, 1), v) }

func chunk16(dst []byte, id, v uint16) []byte {
	return binary.BigEndian.AppendUint16(head(dst, id, 2), v)
}

func chunk32(dst []byte, id uint16, v uint32) []byte {
	return binary.BigEndian.AppendUint32(head(dst, id, 4), v)
}

var errShort = errors.New("hep: packet ends too early")

// Parse reads one datagram. Chunks of other vendors and unknown types are passed over.
// Payload is a view into b.
func Parse(b []byte) (Packet, error) {
	if len(b) < 6 || [4]byte(b[:4]) != magic {
		return Packet{}, errors.New("hep: not a version 3 packet")
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n < 6 || n > len(b) {
		return Packet{}, errShort
	}
	r := reader{}
	for b = b[6:n]; len(b) > 0; {
		if len(b) < 6 {
			return Packet{}, errShort
		}
		vendor, id := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		size := int(binary.BigEndian.Uint16(b[4:]))
		if size < 6 || size > len(b) {
			return Packet{}, errShort
		}
		if vendor == 0 {
			if err := r.chunk(id, b[6:size]); err != nil {
				return Packet{}, err
			}
		}
		b = b[size:]
	}
	return r.packet(), nil
}

// reader gathers what comes in chunks of any order.
type reader struct {
	p              Packet
	src, dst       netip.Addr
	sport, dport   uint16
	seconds, micro uint32
}

func (r *reader) packet() Packet {
	r.p.Source = netip.AddrPortFrom(r.src, r.sport)
	r.p.Destination = netip.AddrPortFrom(r.dst, r.dport)
	r.p.Time = time.Unix(int64(r.seconds), int64(r.micro)*1000)
	return r.p
}

// sizes are the lengths of the chunks that have a fixed one.
var sizes = map[uint16]int{
	chunkFamily: 1, chunkIPProtocol: 1, chunkSource4: 4, chunkDest4: 4, chunkSource6: 16, chunkDest6: 16,
	chunkSourcePort: 2, chunkDestPort: 2, chunkSeconds: 4, chunkMicros: 4, chunkProtocol: 1, chunkAgent: 4,
}

func (r *reader) chunk(id uint16, v []byte) error {
	if want, ok := sizes[id]; ok && len(v) != want {
		return fmt.Errorf("hep: chunk %d has %d octets, not %d", id, len(v), want)
	}
	switch id {
	case chunkIPProtocol:
		r.p.IPProtocol = v[0]
	case chunkSource4, chunkSource6:
		r.src, _ = netip.AddrFromSlice(v)
	case chunkDest4, chunkDest6:
		r.dst, _ = netip.AddrFromSlice(v)
	case chunkSourcePort:
		r.sport = binary.BigEndian.Uint16(v)
	case chunkDestPort:
		r.dport = binary.BigEndian.Uint16(v)
	case chunkSeconds:
		r.seconds = binary.BigEndian.Uint32(v)
	case chunkMicros:
		r.micro = binary.BigEndian.Uint32(v)
	case chunkProtocol:
		r.p.Protocol = v[0]
	case chunkAgent:
		r.p.Agent = binary.BigEndian.Uint32(v)
	case chunkKey:
		r.p.Key = string(v)
	case chunkCorrelation:
		r.p.Correlation = string(v)
	case chunkNode:
		r.p.Node = string(v)
	case chunkPayload:
		r.p.Payload = v
	}
	return nil
}
