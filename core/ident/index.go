package ident

import (
	"hash/maphash"
	"sync/atomic"
)

// shards is how many pieces an index has: a change copies one piece, so with 100,000
// accounts about 100 entries.
const shards = 1024

// index finds accounts by a name. Readers take the shard's map as it is; a writer, who holds
// Directory.mu, puts a changed copy in its place.
type index struct {
	seed maphash.Seed
	part [shards]atomic.Pointer[map[string]*Account]
}

func (x *index) init() { x.seed = maphash.MakeSeed() }

func (x *index) get(key []byte) *Account {
	m := x.part[maphash.Bytes(x.seed, key)%shards].Load()
	if m == nil {
		return nil
	}
	return (*m)[string(key)]
}

// maxKey is the longest name looked up in another case than it is stored in.
const maxKey = 256

// fold is get without regard to ASCII case.
func (x *index) fold(key []byte) *Account {
	for i, c := range key {
		if 'A' <= c && c <= 'Z' {
			return x.lower(key, i)
		}
	}
	return x.get(key)
}

func (x *index) lower(key []byte, from int) *Account {
	var buf [maxKey]byte
	if len(key) > maxKey {
		return nil
	}
	copy(buf[:], key)
	for i := from; i < len(key); i++ {
		if c := buf[i]; 'A' <= c && c <= 'Z' {
			buf[i] = c + 'a' - 'A'
		}
	}
	return x.get(buf[:len(key)])
}

// edit collects changes and copies each shard once.
type edit struct {
	x    *index
	maps map[uint64]map[string]*Account
}

func (x *index) edit() *edit { return &edit{x: x, maps: map[uint64]map[string]*Account{}} }

func (e *edit) shard(key string) map[string]*Account {
	n := maphash.String(e.x.seed, key) % shards
	m, ok := e.maps[n]
	if !ok {
		m = map[string]*Account{}
		if old := e.x.part[n].Load(); old != nil {
			m = make(map[string]*Account, len(*old)+1)
			for k, v := range *old {
				m[k] = v
			}
		}
		e.maps[n] = m
	}
	return m
}

func (e *edit) set(key string, a *Account) {
	m := e.shard(key)
	// The old key's memory belongs to the old snapshot: let go of it.
	delete(m, key)
	m[key] = a
}

// drop deletes the name if it still leads to that account.
func (e *edit) drop(key string, id int64) {
	if m := e.shard(key); m[key] != nil && m[key].ID == id {
		delete(m, key)
	}
}

func (e *edit) apply() {
	for n, m := range e.maps {
		e.x.part[n].Store(&m)
	}
}

// all calls f with every account of the index until f says stop.
func (x *index) all(f func(key string, a *Account) bool) {
	for i := range x.part {
		m := x.part[i].Load()
		if m == nil {
			continue
		}
		for k, a := range *m {
			if !f(k, a) {
				return
			}
		}
	}
}
