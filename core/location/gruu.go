package location

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"

	"fernamt/wire/sip"
)

const (
	tempPrefix = "tgruu."
	tempMark   = 0x47525555 // proves that a decrypted block is ours
)

// instanceOf gives the value of +sip.instance in Contact parameters, bare.
func instanceOf(params []byte) []byte {
	if len(params) == 0 {
		return nil
	}
	v, ok := sip.Param(params, "+sip.instance")
	if !ok {
		return nil
	}
	return Bare(v)
}

// Bare takes quotes and angle brackets off an instance ID.
func Bare(v []byte) []byte {
	v = bytes.Trim(v, `"`)
	if len(v) >= 2 && v[0] == '<' && v[len(v)-1] == '>' {
		v = v[1 : len(v)-1]
	}
	return v
}

// appendGRUU writes the GRUU parameters that the form asks for.
func (t *Table) appendGRUU(dst []byte, r *record, f Form) []byte {
	inst := instanceOf(r.params())
	if f&GRUU != 0 && inst != nil {
		dst = append(dst, `;pub-gruu="sip:`...)
		dst = AppendUser(dst, r.aor())
		dst = append(dst, ";gr="...)
		dst = append(dst, inst...)
		dst = append(dst, `";temp-gruu="sip:`...)
		dst = append(dst, tempPrefix...)
		dst = t.appendTemp(dst, r)
		if i := bytes.LastIndexByte(r.aor(), '@'); i >= 0 {
			dst = append(dst, r.aor()[i:]...)
		}
		dst = append(dst, `;gr"`...)
	}
	if f&OC != 0 {
		if e := appendEpid(nil, inst, r.epid()); e != nil {
			dst = append(dst, `;gruu="sip:`...)
			dst = AppendUser(dst, r.aor())
			dst = append(dst, ";opaque=user:epid:"...)
			dst = append(dst, e...)
			dst = append(dst, `;gruu"`...)
		}
	}
	return dst
}

// AppendUser writes a canonical address with what must be escaped in a user
// part escaped (RFC 3261 §25.1).
func AppendUser(dst, aor []byte) []byte {
	at := bytes.LastIndexByte(aor, '@')
	for i, c := range aor {
		if i < at && !plain(c) {
			const digits = "0123456789ABCDEF"
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

func plain(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || bytes.IndexByte([]byte("-_.!~*'()&=+$,;?/"), c) >= 0
}

// appendTemp writes one AES block: the binding, and the Call-ID that the GRUU
// lives and dies with (RFC 5627 §3.1.2).
func (t *Table) appendTemp(dst []byte, r *record) []byte {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], r.id)
	binary.BigEndian.PutUint32(b[8:], hash32(r.callID()))
	binary.BigEndian.PutUint32(b[12:], tempMark)
	t.temp.Encrypt(b[:], b[:])
	return base64.RawURLEncoding.AppendEncode(dst, b[:])
}

func hash32(b []byte) uint32 {
	h := fnv.New32a()
	h.Write(b)
	return h.Sum32()
}

// ByTemp resolves the user part of a temporary GRUU.
func (t *Table) ByTemp(user []byte, now int64) (Binding, bool) {
	var b [16]byte
	if !bytes.HasPrefix(user, []byte(tempPrefix)) {
		return Binding{}, false
	}
	code := user[len(tempPrefix):]
	if len(code) != base64.RawURLEncoding.EncodedLen(len(b)) {
		return Binding{}, false
	}
	if n, err := base64.RawURLEncoding.Decode(b[:], code); err != nil || n != len(b) {
		return Binding{}, false
	}
	t.temp.Decrypt(b[:], b[:])
	if binary.BigEndian.Uint32(b[12:]) != tempMark {
		return Binding{}, false
	}
	found, ok := t.ByID(binary.BigEndian.Uint64(b[:]), now)
	if !ok || hash32(t.callIDOf(&found)) != binary.BigEndian.Uint32(b[8:]) {
		return Binding{}, false
	}
	return found, true
}

func (t *Table) callIDOf(b *Binding) (id []byte) {
	s, h := t.shardOf(b.AOR)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eachLocked(h, b.AOR, func(_ uint32, r *record) {
		if r.id == b.ID {
			id = bytes.Clone(r.callID())
		}
	})
	return id
}

// IsTemp says that a user part looks like a temporary GRUU of ours.
func IsTemp(user []byte) bool { return bytes.HasPrefix(user, []byte(tempPrefix)) }

// appendEpid writes the endpoint's name in the OC dialect: the UUID of its
// instance, two zero octets, base64; or the epid when there is no UUID.
func appendEpid(dst, inst, epid []byte) []byte {
	var id [18]byte
	if n := len("urn:uuid:"); len(inst) == n+36 {
		var raw [32]byte
		if h := bytes.ReplaceAll(inst[n:], []byte("-"), nil); len(h) == 32 {
			copy(raw[:], h)
			if _, err := hex.Decode(id[:16], raw[:]); err == nil {
				return base64.URLEncoding.AppendEncode(dst, id[:])
			}
		}
	}
	if len(epid) == 0 {
		return dst
	}
	return append(dst, epid...)
}

// ByEndpoint gives the binding of the address that a GRUU means: instance for
// RFC 5627, the text after "user:epid:" for the OC dialect. The newest one
// counts (RFC 5627 §5.1).
func (t *Table) ByEndpoint(aor, instance, epid []byte, now int64) (Binding, bool) {
	var room [8]Binding
	var best Binding
	for _, b := range t.Lookup(aor, now, room[:0]) {
		inst := b.Instance()
		hit := instance != nil && bytes.Equal(inst, instance) ||
			epid != nil && (bytes.Equal(appendEpid(nil, inst, b.Epid), epid) || bytes.Equal(b.Epid, epid))
		if hit && b.Updated >= best.Updated {
			best = b
		}
	}
	return best, best.ID != 0
}
