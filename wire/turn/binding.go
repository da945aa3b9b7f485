// Package turn answers STUN. For now that is the keep-alive of SIP flows (RFC 5626 §4.4.2, RFC 8489); the relay comes with
// the edge. It is pure: octets in, octets out.
package turn

import (
	"net"
	"net/netip"

	"github.com/pion/stun/v4"
)

// AppendBinding appends the answer to the STUN binding request b, which came from from, to dst. It says false, and appends
// nothing, when b is no such request: then nothing is to be sent. The answer has 32 octets for IPv4 and 44 for IPv6, 8
// more when the request carries a fingerprint; a request with attributes that must be understood gets a 420.
func AppendBinding(dst, b []byte, from netip.AddrPort) ([]byte, bool) {
	// Looked at first, so that junk costs nothing.
	if len(b) < 20 || len(b) > 548 || !stun.IsMessage(b) {
		return dst, false
	}
	req := stun.Message{Raw: b}
	if req.Decode() != nil || req.Type != stun.BindingRequest {
		return dst, false
	}
	print := req.Contains(stun.AttrFingerprint)
	if print && stun.Fingerprint.Check(&req) != nil {
		return dst, false
	}
	var unknown stun.UnknownAttributes
	for _, a := range req.Attributes {
		if a.Type.Required() && !known(a.Type) {
			unknown = append(unknown, a.Type)
		}
	}
	set := []stun.Setter{stun.NewTransactionIDSetter(req.TransactionID)}
	if len(unknown) > 0 {
		set = append(set, stun.BindingError, stun.CodeUnknownAttribute, unknown[:min(len(unknown), 8)])
	} else {
		a := from.Addr().Unmap()
		set = append(set, stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IP(a.AsSlice()), Port: int(from.Port())})
	}
	if print {
		set = append(set, stun.Fingerprint)
	}
	answer := stun.Message{}
	if answer.Build(set...) != nil {
		return dst, false
	}
	return append(dst, answer.Raw...), true
}

// known lists what a binding request may carry that must be understood. Credentials are not asked for, hence ignored
// (RFC 5626 §8).
func known(t stun.AttrType) bool {
	switch t {
	case stun.AttrUsername, stun.AttrMessageIntegrity, stun.AttrRealm, stun.AttrNonce:
		return true
	}
	return false
}
