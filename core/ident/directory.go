package ident

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"fernamt/core/event"
	"fernamt/core/store"
)

// What can go wrong with accounts, to be tested for with errors.Is.
var (
	ErrUnknown  = errors.New("no such account")
	ErrTaken    = errors.New("taken by another account")
	ErrPassword = errors.New("wrong name or password")
	ErrDisabled = errors.New("account is disabled")
	ErrDevice   = errors.New("no such device password")
)

// Config says how accounts are kept.
type Config struct {
	Domains []string     // SIP domains that accounts may be in; empty: any
	KeepNT  bool         // keep the hash that NTLM needs beside initial and device passwords; for the lab
	Log     *slog.Logger // nil: slog.Default()
}

// Directory is the set of all accounts.
type Directory struct {
	db   *store.DB
	log  *event.Log
	cfg  Config
	uses uses

	names   index // addresses and aliases
	logins  index // login names that are not addresses of the account
	numbers index
	ids     index
	argon   chan struct{} // slots for computing argon2id

	mu    sync.Mutex
	count int

	cancel context.CancelFunc
	done   chan struct{}
	once   sync.Once
}

// Open loads all accounts and begins to follow the changes that other processes make.
func Open(ctx context.Context, db *store.DB, log *event.Log, cfg Config) (*Directory, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	d := &Directory{db: db, log: log, cfg: cfg, argon: make(chan struct{}, argonAtOnce), done: make(chan struct{})}
	d.uses.init()
	d.cfg.Domains = slices.Clone(d.cfg.Domains)
	for i := range d.cfg.Domains {
		d.cfg.Domains[i] = lowerASCII(d.cfg.Domains[i])
	}
	for _, x := range []*index{&d.names, &d.logins, &d.numbers, &d.ids} {
		x.init()
	}
	at, err := d.reload(ctx)
	if err != nil {
		return nil, fmt.Errorf("load accounts: %w", err)
	}
	run, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	go d.follow(run, at)
	return d, nil
}

// Close stores when passwords were last used and stops following.
func (d *Directory) Close() error {
	var err error
	d.once.Do(func() {
		d.cancel()
		<-d.done
		err = d.flushUses(context.Background(), true)
	})
	return err
}

// ByAddress finds the account that has aor ("user@host", as sip.URI.AppendAOR gives it) as
// its address or an alias; nil when there is none. It neither blocks nor allocates.
func (d *Directory) ByAddress(aor []byte) *Account { return d.names.fold(aor) }

// ByLogin finds an account by login name or, for people type either, by address.
func (d *Directory) ByLogin(name []byte) *Account {
	if a := d.logins.fold(name); a != nil {
		return a
	}
	return d.names.fold(name)
}

// ByNumber finds an account by telephone number, "+" and digits.
func (d *Directory) ByNumber(e164 []byte) *Account { return d.numbers.get(e164) }

// ByID finds an account by its number in the store.
func (d *Directory) ByID(id int64) *Account {
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], uint64(id))
	return d.ids.get(key[:])
}

// ByUsername finds the account that a Digest user name means in a realm: the user part or the
// whole of an address in that domain, or the login name of an account there.
func (d *Directory) ByUsername(username, realm []byte) *Account {
	for _, c := range username {
		if c == '@' {
			return in(d.ByLogin(username), realm)
		}
	}
	var buf [maxKey]byte
	if len(username)+1+len(realm) <= maxKey {
		b := append(append(append(buf[:0], username...), '@'), realm...)
		if a := d.names.fold(b); a != nil {
			return in(a, realm)
		}
	}
	return in(d.logins.fold(username), realm)
}

func in(a *Account, realm []byte) *Account {
	if a == nil || !equalFold(realm, a.Domain()) {
		return nil
	}
	return a
}

// Count is the number of accounts.
func (d *Directory) Count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

// List gives the accounts whose address, name, login or number contains part, without regard
// to case, by address; all when part is empty.
func (d *Directory) List(part string) []*Account {
	part = strings.ToLower(part)
	var list []*Account
	d.ids.all(func(_ string, a *Account) bool {
		if part == "" || strings.Contains(strings.ToLower(a.Address+"\n"+a.Name+"\n"+a.Login+"\n"+
			strings.Join(a.Aliases, "\n")+"\n"+strings.Join(a.Numbers, "\n")), part) {
			list = append(list, a)
		}
		return true
	})
	slices.SortFunc(list, func(a, b *Account) int { return strings.Compare(a.Address, b.Address) })
	return list
}

// Show gives the account with that address or alias.
func (d *Directory) Show(address string) (*Account, error) {
	adr, err := Address(address)
	if err != nil {
		return nil, err
	}
	if a := d.ByAddress([]byte(adr)); a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("%s: %w", adr, ErrUnknown)
}

// replacement is an account's snapshot to put in and the id of one to take out.
type replacement struct {
	id  int64
	now *Account // nil: removed
}

// replace puts new snapshots in place. A snapshot older than the one that is there is left out.
func (d *Directory) replace(list ...replacement) {
	d.mu.Lock()
	defer d.mu.Unlock()
	names, logins, numbers, ids := d.names.edit(), d.logins.edit(), d.numbers.edit(), d.ids.edit()
	for _, r := range list {
		var key [8]byte
		binary.BigEndian.PutUint64(key[:], uint64(r.id))
		id := string(key[:])
		old := ids.shard(id)[id]
		if old != nil && r.now != nil && old.Rev >= r.now.Rev {
			continue
		}
		if old != nil {
			names.drop(old.Address, old.ID)
			for _, s := range old.Aliases {
				names.drop(s, old.ID)
			}
			logins.drop(old.Login, old.ID)
			for _, s := range old.Numbers {
				numbers.drop(s, old.ID)
			}
			ids.drop(id, old.ID)
			d.count--
		}
		a := r.now
		if a == nil {
			continue
		}
		d.count++
		ids.set(id, a)
		names.set(a.Address, a)
		for _, s := range a.Aliases {
			names.set(s, a)
		}
		if !a.Is([]byte(a.Login)) {
			logins.set(a.Login, a)
		}
		for _, s := range a.Numbers {
			numbers.set(s, a)
		}
	}
	for _, e := range []*edit{names, logins, numbers, ids} {
		e.apply()
	}
}

// reload reads everything anew and gives the log's position that it stands for.
func (d *Directory) reload(ctx context.Context) (int64, error) {
	var list []*Account
	var at int64
	err := d.db.Read(ctx, func(tx *store.Tx) (err error) {
		if err = tx.QueryRow("select coalesce(max(id), 0) from event").Scan(&at); err != nil {
			return err
		}
		list, err = load(tx, "")
		return err
	})
	if err != nil {
		return 0, err
	}
	there := make(map[int64]bool, len(list))
	all := make([]replacement, 0, len(list))
	for _, a := range list {
		there[a.ID] = true
		all = append(all, replacement{a.ID, a})
	}
	d.ids.all(func(_ string, a *Account) bool {
		if !there[a.ID] {
			all = append(all, replacement{id: a.ID})
		}
		return true
	})
	d.replace(all...)
	return at, nil
}

// follow replaces snapshots that other processes changed, as the log tells.
func (d *Directory) follow(ctx context.Context, at int64) {
	var reader sync.WaitGroup
	defer func() {
		reader.Wait()
		close(d.done)
	}()
	flush := time.NewTicker(time.Minute)
	defer flush.Stop()
	events := make(chan []event.Event)
	reader.Go(func() { d.read(ctx, at, events) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-flush.C:
			if err := d.flushUses(ctx, false); err != nil && ctx.Err() == nil {
				d.cfg.Log.Warn("last use of passwords not stored", "err", err)
			}
		case list := <-events:
			for {
				err := d.catchUp(ctx, list)
				if err == nil || ctx.Err() != nil {
					break
				}
				d.cfg.Log.Warn("accounts not brought up to date", "err", err)
				pause(ctx, time.Second)
			}
		}
	}
}

func (d *Directory) read(ctx context.Context, at int64, out chan<- []event.Event) {
	r := d.log.Follow(at)
	for ctx.Err() == nil {
		list, err := r.Batch(ctx)
		switch {
		case errors.Is(err, event.ErrClosed):
			return
		case errors.Is(err, event.ErrTrimmed):
			if at, err := d.reload(ctx); err == nil {
				r = d.log.Follow(at)
			} else {
				pause(ctx, time.Second)
			}
		case err != nil:
			pause(ctx, time.Second)
		default:
			select {
			case out <- list:
			case <-ctx.Done():
			}
		}
	}
}

func pause(ctx context.Context, t time.Duration) {
	select {
	case <-time.After(t):
	case <-ctx.Done():
	}
}

func (d *Directory) catchUp(ctx context.Context, list []event.Event) error {
	ids := map[int64]bool{}
	for _, e := range list {
		if !strings.HasPrefix(e.Kind, "user.") {
			continue
		}
		c, _ := event.As[Changed](event.Event{Kind: Changed{}.Kind(), Body: e.Body})
		have := d.ByID(c.ID)
		gone := e.Kind == Removed{}.Kind()
		if c.ID != 0 && (gone && have != nil || !gone && (have == nil || have.Rev < c.Rev)) {
			ids[c.ID] = true
		}
	}
	for id := range ids {
		var now []*Account
		err := d.db.Read(ctx, func(tx *store.Tx) (err error) {
			now, err = load(tx, "where id = ?", id)
			return err
		})
		switch {
		case err != nil:
			return err
		case len(now) == 0:
			d.replace(replacement{id: id})
		default:
			d.replace(replacement{id, now[0]})
		}
	}
	return nil
}
