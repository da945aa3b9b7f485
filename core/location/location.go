// Package location knows where people can be reached: the bindings of
// RFC 3261 §10.3 in memory, with flows (RFC 5626), Path (RFC 3327) and GRUUs
// (RFC 5627), and a journal that brings them back after a restart.
//
// Sharding: 64 shards by a hash of the address of record. Each shard has
// one mutex, which guards its index, its slab and its list of changes; it is a
// leaf, no call leaves the package under it. Records hold no strings: one blob
// of octets each, so that 100,000 bindings are 100,000 small objects.
//
// Goroutines: one, started by Run, which expires, flushes once a second and
// compacts. It alone writes the file.
//
// Time is monotonic nanoseconds (clock.Mono): a jump of the wall clock expires
// nothing. Across a restart the time since boot is used while the machine is
// the same boot, the wall clock else.
package location

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync/atomic"
	"time"

	"fernamt/wire/sip"
)

const shardCount = 64 // the low six bits of a binding's ID name its shard

// Config says where the journal lies and what is called when bindings go.
type Config struct {
	Dir  string       // data folder; "" keeps everything in memory only
	Key  []byte       // 16 octets, for temporary GRUUs; nil draws one
	Log  *slog.Logger // nil: the default one
	Now  func() int64 // monotonic nanoseconds; nil: clock.Mono
	Gone func(Binding, Reason)
	Stat Clock // nil: the machine's
}

// Reason says why a binding went without its user asking for it.
type Reason uint8

// Why bindings go.
const (
	Expired  Reason = iota + 1 // its time ran out
	Closed                     // its connection closed (RFC 5626 §4.3)
	Replaced                   // a newer one took its place, the user had too many
	Dropped                    // an operator removed it
)

var reasonNames = [...]string{"", "expired", "closed", "replaced", "dropped"}

// String gives the word for logs.
func (r Reason) String() string { return reasonNames[r] }

// What Register may answer.
var (
	ErrOrder   = errors.New("cseq is lower than one seen with this call-id") // RFC 3261 §10.3 step 7
	ErrTooMany = errors.New("too many bindings")
	ErrTooLong = errors.New("contact, path and call-id are too long to keep")
)

// Binding is one place where a user can be reached. Its slices may be kept but
// not changed.
type Binding struct {
	ID       uint64   // names the binding as long as it lives, over restarts too
	AOR      []byte   // user@host
	Contact  []byte   // the URI as registered
	Params   []byte   // header parameters of the Contact, without expires and q
	Path     []byte   // comma-separated, RFC 3327; nil when direct
	Agent    []byte   // User-Agent
	Epid     []byte   // endpoint id of the OC dialect
	Flow     sip.Flow // the flow it came over; Link is nil after a restart
	Over     sip.Transport
	Q        int // 0 to 1000
	RegID    uint32
	Expires  int64 // monotonic ns
	Updated  int64 // monotonic ns
	External bool  // came in from outside
}

// Instance gives the +sip.instance without its quotes and brackets, nil if none.
func (b *Binding) Instance() []byte { return instanceOf(b.Params) }

// Table holds all bindings of this process.
type Table struct {
	seed   maphash.Seed
	shards [shardCount]shard
	count  atomic.Int64
	nextID atomic.Uint64
	temp   cipher.Block
	now    func() int64
	gone   atomic.Pointer[func(Binding, Reason)]
	log    *slog.Logger
	file   *journal // nil: memory only
}

// Open makes the table and reads the journal in c.Dir, if there is one.
func Open(c Config) (*Table, error) {
	t := &Table{seed: maphash.MakeSeed(), now: c.Now, log: c.Log}
	if c.Gone != nil {
		t.gone.Store(&c.Gone)
	}
	if t.now == nil {
		t.now = monotonic
	}
	if t.log == nil {
		t.log = slog.Default()
	}
	key := c.Key
	if key == nil {
		key = make([]byte, 16)
		if _, err := rand.Read(key); err != nil {
			return nil, fmt.Errorf("draw a key: %w", err)
		}
	}
	var err error
	if t.temp, err = aes.NewCipher(key); err != nil {
		return nil, fmt.Errorf("temporary gruus: %w", err)
	}
	for i := range t.shards {
		t.shards[i].init(uint8(i))
	}
	if c.Dir != "" {
		if err := t.openJournal(c.Dir, c.Stat); err != nil {
			return nil, fmt.Errorf("location: %w", err)
		}
	}
	return t, nil
}

// SetGone names who hears of bindings that went by themselves; nil: nobody.
func (t *Table) SetGone(f func(Binding, Reason)) {
	if f == nil {
		t.gone.Store(nil)
		return
	}
	t.gone.Store(&f)
}

// Count is the number of bindings held.
func (t *Table) Count() int { return int(t.count.Load()) }

func (t *Table) shardOf(aor []byte) (*shard, uint64) {
	return &t.shards[shardNumber(aor)], maphash.Bytes(t.seed, aor)
}

// shardNumber is the same in every process, since IDs in GRUUs name the shard.
// It need not resist chosen addresses: it only spreads locks.
func shardNumber(aor []byte) uint64 {
	const prime = 0x9E3779B97F4A7C15
	h := uint64(len(aor))
	for len(aor) >= 8 {
		h = (h ^ binary.LittleEndian.Uint64(aor)) * prime
		h ^= h >> 29
		aor = aor[8:]
	}
	for _, c := range aor {
		h = (h ^ uint64(c)) * prime
	}
	return h >> 58
}

func seconds(n int64) int64 { return n / int64(time.Second) }
