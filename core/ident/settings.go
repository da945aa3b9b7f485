package ident

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"fernamt/core/event"
	"fernamt/core/store"
)

// set is change for what needs no look into the store.
func (d *Directory) set(ctx context.Context, address, what string, f func(a *Account) error) error {
	return d.change(ctx, address, what, func(_ *store.Tx, a *Account) (event.Fact, error) { return nil, f(a) })
}

// SetName sets the display name.
func (d *Directory) SetName(ctx context.Context, address, name string) error {
	return d.set(ctx, address, "name", func(a *Account) (err error) {
		a.Name, err = display(name)
		return err
	})
}

// SetLogin sets the login name; empty means the address. Phones that sign in with the old
// login name have to change; those that use the address go on. With the new login name
// phones can sign in after the next initial or device password, since their hash needs it.
func (d *Directory) SetLogin(ctx context.Context, address, name string) error {
	return d.change(ctx, address, "login", func(tx *store.Tx, a *Account) (event.Fact, error) {
		now := a.Address
		if name != "" {
			var err error
			if now, err = login(name); err != nil {
				return nil, err
			}
		}
		old := a.Login
		a.Login = now
		if old == now {
			return nil, nil
		}
		a.Credentials = slices.DeleteFunc(a.Credentials, func(c Credential) bool {
			return c.User == old && old != a.User() && old != a.Address
		})
		return nil, a.storeHashes(tx)
	})
}

// storeHashes writes the hashes of all passwords anew.
func (a *Account) storeHashes(tx *store.Tx) error {
	by := map[int64][]Credential{}
	for _, c := range a.Credentials {
		by[c.ID] = append(by[c.ID], c)
	}
	for id, list := range by {
		if _, err := tx.Exec("update credential set hashes = ? where id = ?", a.hashes(list), id); err != nil {
			return err
		}
	}
	return nil
}

// SetAliases sets the further addresses.
func (d *Directory) SetAliases(ctx context.Context, address string, list []string) error {
	return d.set(ctx, address, "aliases", func(a *Account) (err error) {
		a.Aliases, err = d.aliases(a.Address, list)
		return err
	})
}

// SetNumbers sets the telephone numbers.
func (d *Directory) SetNumbers(ctx context.Context, address string, list []string) error {
	return d.set(ctx, address, "numbers", func(a *Account) (err error) {
		a.Numbers, err = numbers(list)
		return err
	})
}

// SetDisabled bars or readmits an account.
func (d *Directory) SetDisabled(ctx context.Context, address string, disabled bool) error {
	what := "enabled"
	if disabled {
		what = "disabled"
	}
	return d.set(ctx, address, what, func(a *Account) error {
		a.Disabled = disabled
		return nil
	})
}

// SetMaxBindings sets how many phones may be registered at once, 1 to 64.
func (d *Directory) SetMaxBindings(ctx context.Context, address string, n int) error {
	return d.set(ctx, address, "limits", func(a *Account) error {
		a.MaxBindings = n
		return checkMaxBindings(n)
	})
}

// SetHistory sets whether messages are kept.
func (d *Directory) SetHistory(ctx context.Context, address string, h History) error {
	return d.set(ctx, address, "history", func(a *Account) error {
		if h > HistoryOff {
			return errors.New("unknown history policy")
		}
		a.History = h
		return nil
	})
}

// SetRights sets what the person may administer.
func (d *Directory) SetRights(ctx context.Context, address string, rights []string) error {
	return d.set(ctx, address, "rights", func(a *Account) error {
		a.Rights = sorted(rights)
		return nil
	})
}

// Move gives the account to another front end or pool.
func (d *Directory) Move(ctx context.Context, address, home string) error {
	return d.change(ctx, address, "home", func(_ *store.Tx, a *Account) (event.Fact, error) {
		from := a.Home
		a.Home = strings.TrimSpace(home)
		return Moved{a.who(), from, a.Home}, nil
	})
}

// SetForwarding sets all of the forwarding, do-not-disturb included.
func (d *Directory) SetForwarding(ctx context.Context, address string, f Forwarding) error {
	return d.set(ctx, address, "forwarding", func(a *Account) (err error) {
		a.Forwarding, err = f.checked(a)
		return err
	})
}

// SetDND switches do-not-disturb.
func (d *Directory) SetDND(ctx context.Context, address string, on bool) error {
	return d.set(ctx, address, "forwarding", func(a *Account) error {
		a.Forwarding.DND = on
		return nil
	})
}

const maxRing = 8

func (f Forwarding) checked(a *Account) (Forwarding, error) {
	for _, p := range []*string{&f.Always, &f.Busy, &f.NoAnswer, &f.Offline} {
		t, err := target(*p)
		if err == nil && t != "" && a.Is([]byte(t)) {
			err = errors.New("calls cannot be forwarded to the account itself")
		}
		if err != nil {
			return f, err
		}
		*p = t
	}
	if f.Seconds != 0 && (f.Seconds < 5 || f.Seconds > 180) {
		return f, fmt.Errorf("%d seconds of ringing are not allowed: 5 to 180", f.Seconds)
	}
	if len(f.Ring) > maxRing {
		return f, fmt.Errorf("%d targets that ring at the same time are too many: %d", len(f.Ring), maxRing)
	}
	var ring []string
	for _, s := range f.Ring {
		t, err := target(s)
		if err != nil {
			return f, err
		}
		if t != "" && !a.Is([]byte(t)) && !slices.Contains(ring, t) {
			ring = append(ring, t)
		}
	}
	f.Ring = ring
	return f, nil
}
