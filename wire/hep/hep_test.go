package hep

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fernamt/test/is"
)

// TestAppend writes a packet out by hand from the chunk table of the specification:
// vendor, type, length with its own six octets, value.
func TestAppend(t *testing.T) {
	p := &Packet{
		Time:   time.Unix(1764000000, 123456000),
		Source: netip.MustParseAddrPort("212.202.0.1:12010"), Destination: netip.MustParseAddrPort("82.116.0.211:5060"),
		IPProtocol: UDP, Protocol: SIP, Agent: 228, Key: "myhep", Payload: []byte("INVITE"),
	}
	want := strings.Join([]string{
		"48455033", "0076", // HEP3, 118 octets in all
		"0000 0001 0007 02",       // IPv4
		"0000 0002 0007 11",       // UDP
		"0000 0003 000a d4ca0001", // from
		"0000 0004 000a 527400d3", // to
		"0000 0007 0008 2eea",     // 12010
		"0000 0008 0008 13c4",     // 5060
		"0000 0009 000a 69248100", // seconds
		"0000 000a 000a 0001e240", // microseconds
		"0000 000b 0007 01",       // SIP
		"0000 000c 000a 000000e4", // agent
		"0000 000e 000b 6d79686570",
		"0000 000f 000c 494e56495445",
	}, "")
	b, err := hex.DecodeString(strings.ReplaceAll(want, " ", ""))
	is.NoErr(t, err)
	b[4], b[5] = byte(len(b)>>8), byte(len(b))
	is.Equal(t, hex.EncodeToString(Append(nil, p)), hex.EncodeToString(b))
}

func TestThereAndBack(t *testing.T) {
	for _, p := range []Packet{
		{Time: time.Unix(1, 0), Source: netip.MustParseAddrPort("192.0.2.1:1"), Destination: netip.MustParseAddrPort("192.0.2.2:2"),
			IPProtocol: TCP, Protocol: SIP, Agent: 1, Node: "a.example.test", Correlation: "call@x", Payload: []byte("x")},
		{Time: time.Unix(2, 999000), Source: netip.MustParseAddrPort("[2001:db8::1]:5060"),
			Destination: netip.MustParseAddrPort("[2001:db8::2]:5061"), IPProtocol: UDP, Protocol: RTCP,
			Payload: bytes.Repeat([]byte("y"), 1500)},
	} {
		q, err := Parse(Append([]byte{}, &p))
		is.NoErr(t, err)
		is.True(t, q.Time.Equal(p.Time), "time")
		q.Time = p.Time
		is.Equal(t, q, p)
	}
}

// TestLong: a datagram must not outgrow its length field.
func TestLong(t *testing.T) {
	p := Packet{Payload: make([]byte, 100000)}
	b := Append(nil, &p)
	is.True(t, len(b) <= 65507, "fits a datagram")
	q, err := Parse(b)
	is.NoErr(t, err)
	is.True(t, len(q.Payload) > 64000, "most is there")
}

func TestBad(t *testing.T) {
	good := Append(nil, &Packet{Payload: []byte("x"), Source: netip.MustParseAddrPort("192.0.2.1:1"),
		Destination: netip.MustParseAddrPort("192.0.2.2:2")})
	for n := range len(good) {
		_, err := Parse(good[:n])
		is.True(t, err != nil, "cut short")
	}
	bad := bytes.Clone(good)
	bad[11] = 8 // the first chunk claims an octet of the next
	_, err := Parse(bad)
	is.Err(t, err, "hep:")
	foreign := append(bytes.Clone(good), 0, 9, 0, 1, 0, 7, 1) // vendor 9
	foreign[5] += 7
	_, err = Parse(foreign)
	is.NoErr(t, err)
}

func FuzzParse(f *testing.F) {
	f.Add(Append(nil, &Packet{Payload: []byte("x"), Node: "n", Source: netip.MustParseAddrPort("192.0.2.1:1"),
		Destination: netip.MustParseAddrPort("192.0.2.2:2")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		if _, err := Parse(Append(nil, &p)); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}
