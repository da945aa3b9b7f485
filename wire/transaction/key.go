package transaction

import (
	"encoding/binary"
	"hash/maphash"

	"fernamt/wire/sip"
)

// key names a server transaction. Two seeded hashes stand for the strings that
// RFC 3261 §17.2.3 compares: nobody outside can aim for a collision.
type key struct{ a, b uint64 }

// serverKey gives the key of the transaction that request m belongs to. ACK and
// CANCEL give the key of their INVITE.
func (l *Layer) serverKey(m *sip.Message, via *sip.Via) key {
	method := m.Method()
	if method == sip.ACK || method == sip.CANCEL {
		method = sip.INVITE
	}
	var h [2]maphash.Hash
	h[0].SetSeed(l.seed[0])
	h[1].SetSeed(l.seed[1])
	for i := range h {
		if len(via.Branch) > len(sip.MagicCookie) && string(via.Branch[:len(sip.MagicCookie)]) == sip.MagicCookie {
			h[i].Write(via.Branch)
			write(&h[i], via.Host)
			h[i].WriteByte(byte(via.Port))
			h[i].WriteByte(byte(via.Port >> 8))
		} else {
			old(&h[i], m, via)
		}
		h[i].WriteByte(byte(method))
		if method == sip.Other {
			write(&h[i], m.MethodName())
		}
	}
	return key{h[0].Sum64(), h[1].Sum64()}
}

// old hashes what RFC 3261 §17.2.3 compares when the branch is from RFC 2543 or
// missing. The To tag stays out, so that the ACK finds its INVITE. A living client
// sends such a Via: pidgin-sipe in each dialog that it starts.
func old(h *maphash.Hash, m *sip.Message, via *sip.Via) {
	write(h, m.CallID())
	write(h, m.FromTag())
	write(h, m.RequestURI())
	write(h, via.Host)
	write(h, via.Branch)
	var b [6]byte
	n, _, _ := m.CSeq()
	binary.LittleEndian.PutUint32(b[:4], n)
	binary.LittleEndian.PutUint16(b[4:], via.Port)
	h.Write(b[:])
}

func write(h *maphash.Hash, b []byte) {
	h.Write(b)
	h.WriteByte(0)
}

// Branches that we make: cookie, this process's mark, place and generation of the
// client transaction, then what the proxy adds to find loops.
//
//	z9hG4bKf<mark 8>.<place 8><generation 16>.<loop 16>
const (
	branchMark  = len(sip.MagicCookie) + 1
	branchPlace = branchMark + 8 + 1
	branchLoop  = branchPlace + 8 + 16 + 1
	branchLen   = branchLoop + 16
)

const hexDigits = "0123456789abcdef"

func appendHex(dst []byte, v uint64, digits int) []byte {
	for i := digits - 1; i >= 0; i-- {
		dst = append(dst, hexDigits[v>>(4*uint(i))&15])
	}
	return dst
}

func parseHex(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return v, true
}

// appendBranch writes the branch of the client transaction at place.
func (l *Layer) appendBranch(dst []byte, place uint32, gen, loop uint64) []byte {
	dst = append(dst, sip.MagicCookie...)
	dst = append(dst, 'f')
	dst = append(dst, l.mark[:]...)
	dst = append(dst, '.')
	dst = appendHex(dst, uint64(place), 8)
	dst = appendHex(dst, gen, 16)
	dst = append(dst, '.')
	return appendHex(dst, loop, 16)
}

// parseBranch undoes appendBranch; ok is false for a branch that is not ours.
func (l *Layer) parseBranch(b []byte) (place uint32, gen uint64, ok bool) {
	if len(b) != branchLen || string(b[branchMark:branchMark+8]) != string(l.mark[:]) {
		return 0, 0, false
	}
	p, ok1 := parseHex(b[branchPlace : branchPlace+8])
	g, ok2 := parseHex(b[branchPlace+8 : branchPlace+24])
	return uint32(p), g, ok1 && ok2
}

// Looped says whether branch was made by this process for the same loop value:
// the request came back unchanged (RFC 5393 §4.2).
func (l *Layer) Looped(branch []byte, loop uint64) bool {
	if len(branch) != branchLen || string(branch[branchMark:branchMark+8]) != string(l.mark[:]) {
		return false
	}
	v, ok := parseHex(branch[branchLoop:])
	return ok && v == loop
}
