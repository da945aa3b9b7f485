package gss

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// Verdict is what a nonce is worth.
type Verdict uint8

// The verdicts. Stale: right but too old, or its counts are forgotten: challenge again
// with stale=true. Replayed: this count was used before.
const (
	Fresh Verdict = iota + 1
	Stale
	Replayed
)

var verdicts = [...]string{"", "fresh", "stale", "replayed"}

// String names the verdict.
func (v Verdict) String() string { return verdicts[v] }

// A nonce is 30 octets in base64url: when it was made, a number of its own, a tag over
// both. The tag is the sum of key and these 16 octets; as their length never changes,
// nobody can extend them, and it costs one block.
const (
	plainSize = 16
	tagSize   = 14
	rawSize   = plainSize + tagSize
	nonceSize = rawSize * 4 / 3 // octets of a nonce as text: 40
)

// Table sizes: 64 shards of 2,048 windows of 40 octets are 5 MiB when full.
const (
	shardCount = 64
	shardSize  = 2048
	shardHeads = 1024
)

// Nonces makes and checks nonces. It is safe for many goroutines.
type Nonces struct {
	key    [sha256.Size]byte
	life   int64
	now    func() int64
	next   atomic.Uint64
	shards [shardCount]shard
}

// shard keeps the windows of some of the nonces in use, the oldest overwritten first.
type shard struct {
	mu      sync.Mutex
	windows []window // grows to shardSize
	heads   [shardHeads]int32
	at      int   // the next to be overwritten
	floor   int64 // nonces up to this age may have been overwritten
	_       [64]byte
}

// window holds the counts seen of one nonce.
type window struct {
	made, number int64
	seen         uint64 // bit i: count high-i was used
	high         uint32
	next         int32  // in the chain, index+1
	head         uint16 // the chain that it is in
}

// NewNonces makes nonces that live as long as life. now gives nanoseconds of a clock that
// does not jump; key is random and shared by all who shall know these nonces.
func NewNonces(key [32]byte, life time.Duration, now func() int64) *Nonces {
	n := &Nonces{key: key, life: int64(life), now: now}
	var b [8]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails
	n.next.Store(binary.LittleEndian.Uint64(b[:]))
	for i := range n.shards {
		n.shards[i].floor = -1 << 63
	}
	return n
}

// tag sums key and plain octets.
func (n *Nonces) tag(plain []byte) [sha256.Size]byte {
	var b [sha256.Size + plainSize]byte
	copy(b[:], n.key[:])
	copy(b[sha256.Size:], plain)
	return sha256.Sum256(b[:])
}

// Make appends a new nonce, 40 letters, digits, "-" and "_". It keeps nothing.
func (n *Nonces) Make(dst []byte) []byte {
	var raw [rawSize]byte
	binary.BigEndian.PutUint64(raw[:], uint64(n.now()))
	binary.BigEndian.PutUint64(raw[8:], n.next.Add(1))
	t := n.tag(raw[:plainSize])
	copy(raw[plainSize:], t[:])
	return base64.RawURLEncoding.AppendEncode(dst, raw[:])
}

// Check says whether a nonce is ours and young and its count nc is new, and notes the
// count. Ask only after Verify: then nobody without a password can fill the table. nc 0
// stands for an answer without qop, which a nonce is good for once.
func (n *Nonces) Check(nonce []byte, nc uint32) Verdict {
	var raw [rawSize]byte
	if len(nonce) != nonceSize || !decode(&raw, nonce) {
		return Stale
	}
	t := n.tag(raw[:plainSize])
	if subtle.ConstantTimeCompare(t[:tagSize], raw[plainSize:]) != 1 {
		return Stale
	}
	made := int64(binary.BigEndian.Uint64(raw[:]))
	if age := n.now() - made; age < 0 || age > n.life {
		return Stale
	}
	number := int64(binary.BigEndian.Uint64(raw[8:]))
	hash := binary.LittleEndian.Uint32(t[tagSize:]) // the tag's rest is as good as random, and secret
	return n.shards[hash%shardCount].use(window{made: made, number: number, high: nc}, hash/shardCount%shardHeads)
}

// use looks a nonce's window up, makes it at first use, and notes the count w.high.
func (s *shard) use(w window, head uint32) Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := s.heads[head]; i != 0; i = s.windows[i-1].next {
		if x := &s.windows[i-1]; x.number == w.number && x.made == w.made {
			return x.note(w.high)
		}
	}
	if w.made <= s.floor {
		return Stale
	}
	s.putLocked(w, head)
	return Fresh
}

// putLocked stores a new window in the place of the oldest.
func (s *shard) putLocked(w window, head uint32) {
	w.seen, w.next, w.head = 1, s.heads[head], uint16(head)
	if len(s.windows) < shardSize {
		s.windows = append(s.windows, w)
		s.heads[head] = int32(len(s.windows))
		return
	}
	old := int32(s.at + 1)
	s.floor = max(s.floor, s.windows[s.at].made)
	to := &s.heads[s.windows[s.at].head]
	for *to != old {
		to = &s.windows[*to-1].next
	}
	*to = s.windows[s.at].next
	w.next = s.heads[head]
	s.windows[s.at] = w
	s.heads[head] = old
	s.at = (s.at + 1) % shardSize
}

// decode reads the text of a nonce.
func decode(raw *[rawSize]byte, text []byte) bool {
	n, err := base64.RawURLEncoding.Decode(raw[:], text)
	return err == nil && n == rawSize
}

// note marks a count as used.
func (x *window) note(nc uint32) Verdict {
	switch {
	case nc == 0 || x.high == 0: // without qop: once
		return Stale
	case nc > x.high:
		if by := nc - x.high; by < 64 {
			x.seen <<= by
		} else {
			x.seen = 0
		}
		x.seen |= 1
		x.high = nc
		return Fresh
	case x.high-nc >= 64:
		return Stale
	case x.seen&(1<<(x.high-nc)) != 0:
		return Replayed
	}
	x.seen |= 1 << (x.high - nc)
	return Fresh
}
