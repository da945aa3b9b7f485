package route

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"fernamt/wire/sip"
)

// A token stands in each Record-Route and Path of ours as the parameter "ft". It
// holds the flows of both sides (RFC 5626 §5.3), so that a request within a dialog
// reaches a connection behind NAT or a WebSocket, and it cannot be forged: a
// request without one is a stranger's. Two sides over UDP and IPv4 fit one AES
// block: 6 bits say which sockets, 26 bits are fixed, 12 octets are the addresses; a
// guess is right once in 67 million, and then leads to an address that nobody chose.
// All else is written out with an HMAC of 10 octets.

const (
	keyName  = "flow.key"
	shortLen = 22 // base64 of one block
	tagLen   = 10
)

// side is one end of a token.
type side struct {
	kind   uint8 // sideNone …
	link   uint64
	remote netip.AddrPort
}

const (
	sideNone  = iota // nobody: the other side of a Path
	sideUDP          // socket link, remote address
	sideLink         // connection link
	sideLocal        // a role of this process; link is the hash of its name
)

type tokens struct {
	block cipher.Block
	mac   []byte
}

func newTokens(key []byte) (*tokens, error) {
	a := sha256.Sum256(append([]byte("block "), key...))
	m := sha256.Sum256(append([]byte("mac "), key...))
	b, err := aes.NewCipher(a[:16])
	return &tokens{block: b, mac: m[:]}, err
}

// loadKey reads the key in dir, or makes it: tokens outlive a restart. Without a
// dir the key lives as long as the process.
func loadKey(dir string) ([]byte, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	if dir == "" {
		return key, nil
	}
	name := filepath.Join(dir, keyName)
	have, err := os.ReadFile(name)
	switch {
	case err == nil && len(have) == len(key):
		return have, nil
	case err == nil:
		return nil, fmt.Errorf("%s is damaged: remove it, calls in progress then end on their own", name)
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(name+".new", key, 0o600); err != nil {
		return nil, err
	}
	return key, os.Rename(name+".new", name)
}

func sideOf(f sip.Flow) side {
	if f.Link == nil {
		return side{}
	}
	info := f.Link.Info()
	switch info.Transport {
	case sip.UDP:
		return side{sideUDP, info.ID, f.Remote}
	case sip.Local:
		return side{kind: sideLocal, link: info.ID}
	}
	return side{kind: sideLink, link: info.ID}
}

func (s side) short() bool { return s.kind == sideUDP && s.link < 8 && s.remote.Addr().Is4() }

// is says whether f is exactly the flow that the side names.
func (s side) is(f sip.Flow) bool {
	info := f.Link.Info()
	switch s.kind {
	case sideUDP:
		return info.ID == s.link && f.Remote == s.remote
	case sideLink, sideLocal:
		return info.ID == s.link
	}
	return false
}

// append writes the token for the sides up and down.
func (t *tokens) append(dst []byte, up, down side) []byte {
	if !up.short() || !down.short() {
		return t.appendLong(dst, up, down)
	}
	var b [16]byte
	binary.BigEndian.PutUint32(b[:], uint32(up.link)<<29|uint32(down.link)<<26|1<<22)
	a := up.remote.Addr().As4()
	copy(b[4:], a[:])
	binary.BigEndian.PutUint16(b[8:], up.remote.Port())
	a = down.remote.Addr().As4()
	copy(b[10:], a[:])
	binary.BigEndian.PutUint16(b[14:], down.remote.Port())
	t.block.Encrypt(b[:], b[:])
	return base64.RawURLEncoding.AppendEncode(dst, b[:])
}

func (t *tokens) appendLong(dst []byte, up, down side) []byte {
	var room [80]byte
	b := appendSide(appendSide(room[:0], up), down)
	h := hmac.New(sha256.New, t.mac)
	h.Write(b)
	var sum [sha256.Size]byte
	b = append(b, h.Sum(sum[:0])[:tagLen]...)
	return base64.RawURLEncoding.AppendEncode(dst, b)
}

func appendSide(b []byte, s side) []byte {
	b = append(b, s.kind)
	b = binary.BigEndian.AppendUint64(b, s.link)
	if s.kind != sideUDP {
		return b
	}
	a := s.remote.Addr().As16()
	return binary.BigEndian.AppendUint16(append(b, a[:]...), s.remote.Port())
}

// read gives the sides of a token; false when it is none of ours.
func (t *tokens) read(text []byte) (up, down side, ok bool) {
	var b [96]byte
	if len(text) > base64.RawURLEncoding.EncodedLen(len(b)) {
		return up, down, false
	}
	n, err := base64.RawURLEncoding.Decode(b[:], text)
	if err != nil {
		return up, down, false
	}
	if len(text) != shortLen {
		return t.readLong(b[:n])
	}
	t.block.Decrypt(b[:16], b[:16])
	head := binary.BigEndian.Uint32(b[:])
	if head<<6>>6 != 1<<22 {
		return up, down, false
	}
	up = side{sideUDP, uint64(head >> 29), netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[8:]))}
	down = side{sideUDP, uint64(head >> 26 & 7), netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[10:14])), binary.BigEndian.Uint16(b[14:]))}
	return up, down, true
}

func (t *tokens) readLong(b []byte) (up, down side, ok bool) {
	if len(b) < 18+tagLen {
		return up, down, false
	}
	body, tag := b[:len(b)-tagLen], b[len(b)-tagLen:]
	h := hmac.New(sha256.New, t.mac)
	h.Write(body)
	if !hmac.Equal(h.Sum(nil)[:tagLen], tag) {
		return up, down, false
	}
	up, body = readSide(body)
	down, body = readSide(body)
	return up, down, len(body) == 0
}

func readSide(b []byte) (side, []byte) {
	if len(b) < 9 {
		return side{}, nil
	}
	s := side{kind: b[0], link: binary.BigEndian.Uint64(b[1:])}
	b = b[9:]
	if s.kind == sideUDP && len(b) >= 18 {
		s.remote = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), binary.BigEndian.Uint16(b[16:]))
		b = b[18:]
	}
	return s, b
}
