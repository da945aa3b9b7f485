package location

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// Lookup appends the live bindings of the address to dst, best q first, newest
// first among equals.
func (t *Table) Lookup(aor []byte, now int64, dst []Binding) []Binding {
	s, h := t.shardOf(aor)
	start := len(dst)
	s.mu.Lock()
	for i := s.index[h]; i != 0; i = s.at(i).next {
		if r := s.at(i); r.expires > now && bytes.Equal(r.aor(), aor) {
			dst = append(dst, r.binding())
		}
	}
	s.mu.Unlock()
	for i := start + 1; i < len(dst); i++ { // insertion sort: few, and no allocation
		for j := i; j > start && better(&dst[j], &dst[j-1]); j-- {
			dst[j], dst[j-1] = dst[j-1], dst[j]
		}
	}
	return dst
}

func better(a, b *Binding) bool {
	if a.Q != b.Q {
		return a.Q > b.Q
	}
	return a.Updated > b.Updated
}

// ByID gives the binding with that ID.
func (t *Table) ByID(id uint64, now int64) (b Binding, ok bool) {
	s := &t.shards[id%shardCount]
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.chunks {
		for i := range c {
			if r := &c[i]; r.flags&used != 0 && r.id == id && r.expires > now {
				return r.binding(), true
			}
		}
	}
	return b, false
}

// Closed drops all bindings of a connection that ended.
func (t *Table) Closed(link uint64) {
	for i := range t.shards {
		s := &t.shards[i]
		var gone []Binding
		s.mu.Lock()
		for j := s.flows[link]; j != 0; j = s.flows[link] {
			gone = append(gone, s.at(j).binding())
			s.dropLocked(j)
		}
		s.mu.Unlock()
		t.count.Add(int64(-len(gone)))
		t.tell(gone, Closed)
	}
}

// Remove drops the binding with that ID, for a flow that proved dead (RFC 5626 §5.3).
func (t *Table) Remove(b *Binding, why Reason) bool {
	s := &t.shards[b.ID%shardCount]
	found := false
	_, h := t.shardOf(b.AOR)
	s.mu.Lock()
	s.eachLocked(h, b.AOR, func(i uint32, r *record) {
		if r.id == b.ID {
			s.dropLocked(i)
			found = true
		}
	})
	s.mu.Unlock()
	if found {
		t.count.Add(-1)
		t.tell([]Binding{*b}, why)
	}
	return found
}

// RemoveAll drops every binding of an address and says how many there were.
func (t *Table) RemoveAll(aor []byte) int {
	var gone []Binding
	s, h := t.shardOf(aor)
	s.mu.Lock()
	s.eachLocked(h, aor, func(i uint32, r *record) {
		gone = append(gone, r.binding())
		s.dropLocked(i)
	})
	s.mu.Unlock()
	t.count.Add(int64(-len(gone)))
	t.tell(gone, Dropped)
	return len(gone)
}

// Prune drops every binding whose address keep refuses and says how many there were.
// keep is called with a shard locked: it must be quick and not come back here.
func (t *Table) Prune(keep func(aor []byte) bool) (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		var gone []Binding
		s.mu.Lock()
		for c := range s.chunks {
			for k := range s.chunks[c] {
				if r := &s.chunks[c][k]; r.flags&used != 0 && !keep(r.aor()) {
					gone = append(gone, r.binding())
					s.dropLocked(uint32(c*chunkLen + k + 1))
				}
			}
		}
		s.mu.Unlock()
		t.count.Add(int64(-len(gone)))
		t.tell(gone, Dropped)
		n += len(gone)
	}
	return n
}

// expire drops what ran out in the shards from to to.
func (t *Table) expire(from, to int, now int64) {
	for i := from; i < to; i++ {
		s := &t.shards[i]
		var gone []Binding
		s.mu.Lock()
		for c := range s.chunks {
			for k := range s.chunks[c] {
				if r := &s.chunks[c][k]; r.flags&used != 0 && r.expires <= now {
					gone = append(gone, r.binding())
					s.dropLocked(uint32(c*chunkLen + k + 1))
				}
			}
		}
		s.mu.Unlock()
		t.count.Add(int64(-len(gone)))
		t.tell(gone, Expired)
	}
}

// Run expires bindings and keeps the journal until ctx ends; the last changes
// are on disk when it returns.
func (t *Table) Run(ctx context.Context) error {
	const parts = 8 // the table is looked through once in eight seconds; Lookup is exact
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; ; n = (n + 1) % parts {
		select {
		case <-ctx.Done():
			return t.Close()
		case <-tick.C:
			const share = shardCount / parts
			t.expire(n*share, (n+1)*share, t.now())
			if err := t.Flush(); err != nil {
				t.log.Error("registrations cannot be saved", "err", err)
			}
		}
	}
}

// All gives every live binding, by address.
func (t *Table) All(now int64) []Binding {
	all := make([]Binding, 0, t.Count())
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, c := range s.chunks {
			for k := range c {
				if c[k].flags&used != 0 && c[k].expires > now {
					all = append(all, c[k].binding())
				}
			}
		}
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Binding) int {
		return cmp.Or(bytes.Compare(a.AOR, b.AOR), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Dump writes one line per binding: address, contact, transport, peer, seconds left.
func (t *Table) Dump(w io.Writer) error {
	now := t.now()
	for _, b := range t.All(now) {
		if _, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%ds\n", b.AOR, b.Contact, b.Over, b.Flow.Remote, seconds(b.Expires-now)); err != nil {
			return err
		}
	}
	return nil
}
