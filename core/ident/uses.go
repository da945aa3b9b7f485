package ident

import (
	"context"
	"sync"
	"time"

	"fernamt/core/store"
)

// useEvery is how often at most the last use of one password is stored.
const useEvery = time.Hour

// uses remembers when credentials were last used, and what of that is stored.
type uses struct {
	part [64]usePart
}

type usePart struct {
	mu   sync.Mutex
	last map[int64]use
}

// use holds seconds since 1970.
type use struct{ seen, stored int64 }

func (u *uses) init() {
	for i := range u.part {
		u.part[i].last = map[int64]use{}
	}
}

// Used notes that a phone signed in with the credential of that ID. It is cheap; the time
// goes to the store once an hour and at Close.
func (d *Directory) Used(credential int64) {
	p := &d.uses.part[uint64(credential)%uint64(len(d.uses.part))]
	now := time.Now().Unix()
	p.mu.Lock()
	u := p.last[credential]
	u.seen = now
	p.last[credential] = u
	p.mu.Unlock()
}

// lastUse gives the last use of the credential, whether it is stored yet or not.
func (d *Directory) lastUse(c *Credential) time.Time {
	p := &d.uses.part[uint64(c.ID)%uint64(len(d.uses.part))]
	p.mu.Lock()
	defer p.mu.Unlock()
	if u, ok := p.last[c.ID]; ok {
		return time.Unix(u.seen, 0)
	}
	return c.Used
}

func (d *Directory) flushUses(ctx context.Context, all bool) error {
	for i := range d.uses.part {
		p := &d.uses.part[i]
		due := map[int64]int64{}
		p.mu.Lock()
		for id, u := range p.last {
			if u.seen > u.stored && (all || u.seen-u.stored >= int64(useEvery/time.Second)) {
				due[id] = u.seen
			}
		}
		p.mu.Unlock()
		if len(due) == 0 {
			continue
		}
		err := d.db.Write(ctx, func(tx *store.Tx) error {
			for id, seen := range due {
				if _, err := tx.Exec("update credential set used = ? where id = ?", seen*int64(time.Second), id); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		p.mu.Lock()
		for id, seen := range due {
			p.last[id] = use{max(seen, p.last[id].seen), seen}
		}
		p.mu.Unlock()
	}
	return nil
}
