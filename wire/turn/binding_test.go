package turn

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/pion/stun/v4"

	"fernamt/test/is"
)

func TestBinding(t *testing.T) {
	id := "b7e7a701bc34d686fa87dfae" // RFC 5769 §2.2 and §2.3
	plain, _ := hex.DecodeString("000100002112a442" + id)
	printed := stun.MustBuild(stun.BindingRequest, stun.TransactionID, stun.Fingerprint).Raw
	for _, c := range []struct {
		name string
		req  []byte
		from string
		want string // without fingerprint
	}{
		// RFC 8489 §14.2: the port and the address, each with the cookie (and the id) laid over.
		{"ipv4", plain, "192.0.2.1:32853", "0101000c2112a442" + id + "00200008" + "0001a147" + "e112a643"},
		{"mapped", plain, "[::ffff:192.0.2.1]:32853", "0101000c2112a442" + id + "00200008" + "0001a147" + "e112a643"},
		{"ipv6", plain, "[2001:db8:1234:5678:11:2233:4455:6677]:32853", "010100182112a442" + id + "00200014" + "0002a147" +
			"0113a9faa5d3f179bc25f4b5bed2b9d9"},
	} {
		got, ok := AppendBinding(nil, c.req, netip.MustParseAddrPort(c.from))
		is.True(t, ok, c.name)
		is.Equal(t, hex.EncodeToString(got), c.want, c.name)
		m := stun.Message{Raw: got}
		is.NoErr(t, m.Decode())
		var a stun.XORMappedAddress
		is.NoErr(t, a.GetFrom(&m))
		from := netip.MustParseAddrPort(c.from)
		is.Equal(t, netip.AddrPortFrom(netip.MustParseAddr(a.IP.String()), uint16(a.Port)).String(),
			netip.AddrPortFrom(from.Addr().Unmap(), from.Port()).String(), c.name)
	}
	got, ok := AppendBinding([]byte("x"), printed, netip.MustParseAddrPort("192.0.2.1:1"))
	is.True(t, ok && got[0] == 'x', "appends")
	m := stun.Message{Raw: got[1:]}
	is.NoErr(t, m.Decode())
	is.NoErr(t, stun.Fingerprint.Check(&m), "a request with a fingerprint gets one")
}

func TestUnknownAttribute(t *testing.T) {
	req := stun.MustBuild(stun.BindingRequest, stun.TransactionID,
		stun.RawAttribute{Type: 0x0003, Value: make([]byte, 4)})
	got, ok := AppendBinding(nil, req.Raw, netip.MustParseAddrPort("192.0.2.1:1"))
	is.True(t, ok, "answered")
	m := stun.Message{Raw: got}
	is.NoErr(t, m.Decode())
	is.Equal(t, m.Type, stun.BindingError)
	var code stun.ErrorCodeAttribute
	is.NoErr(t, code.GetFrom(&m))
	is.Equal(t, code.Code, stun.CodeUnknownAttribute)
}

func TestNoAnswer(t *testing.T) {
	good, _ := hex.DecodeString("000100002112a442000102030405060708090a0b")
	change := func(at int, v byte) []byte { b := append([]byte{}, good...); b[at] = v; return b }
	long := append(append([]byte{}, good...), make([]byte, 600)...)
	binary.BigEndian.PutUint16(long[2:], 600)
	broken := stun.MustBuild(stun.BindingRequest, stun.TransactionID, stun.Fingerprint).Raw
	broken[len(broken)-1] ^= 1
	for name, b := range map[string][]byte{"short": good[:19], "cookie": change(4, 0), "response": change(0, 1),
		"indication": change(1, 0x11), "allocate": change(1, 3), "length": change(3, 4), "long": long, "print": broken,
		"empty": nil} {
		got, ok := AppendBinding(nil, b, netip.MustParseAddrPort("192.0.2.1:1"))
		is.True(t, !ok && len(got) == 0, name)
	}
}

func FuzzBinding(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl"))
	f.Add(stun.MustBuild(stun.BindingRequest, stun.TransactionID, stun.NewSoftware("x"), stun.Fingerprint).Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := AppendBinding(nil, b, netip.MustParseAddrPort("192.0.2.1:1"))
		if ok && len(got) > 100 {
			t.Errorf("%d octets in answer to %d", len(got), len(b))
		}
	})
}
