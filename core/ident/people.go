package ident

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"fernamt/core/event"
	"fernamt/core/store"
)

// The number of phones that may be registered for one account at once.
const (
	DefaultMaxBindings = 8
	maxMaxBindings     = 64
)

// New is what Add needs. Only Address must be there.
type New struct {
	Address     string
	Name        string
	Password    string `json:"-"` // initial password; empty: the account cannot sign in until one is set
	Login       string // empty: the address
	Aliases     []string
	Numbers     []string
	Home        string
	MaxBindings int // 0: DefaultMaxBindings
	Rights      []string
}

// account checks n and gives the account without its ID. The strings are copies: a string
// cut from a line of a file would keep the line's password in memory.
func (d *Directory) account(n New) (*Account, error) {
	a := &Account{Rev: 1, Home: strings.Clone(strings.TrimSpace(n.Home)), MaxBindings: n.MaxBindings, Created: time.Now()}
	var err error
	if a.Address, err = Address(n.Address); err != nil {
		return nil, err
	}
	a.Address = strings.Clone(a.Address)
	if err := d.domain(a.Domain()); err != nil {
		return nil, err
	}
	if a.Name, err = display(n.Name); err != nil {
		return nil, err
	}
	a.Name = strings.Clone(a.Name)
	a.Login = a.Address
	if n.Login != "" {
		l, err := login(n.Login)
		if err != nil {
			return nil, err
		}
		if l != a.Address {
			a.Login = strings.Clone(l)
		}
	}
	if a.Aliases, err = d.aliases(a.Address, n.Aliases); err != nil {
		return nil, err
	}
	if a.Numbers, err = numbers(n.Numbers); err != nil {
		return nil, err
	}
	if a.MaxBindings == 0 {
		a.MaxBindings = DefaultMaxBindings
	}
	if err := checkMaxBindings(a.MaxBindings); err != nil {
		return nil, err
	}
	a.Rights = sorted(n.Rights)
	if n.Password != "" {
		err = checkNewPassword(n.Password)
	}
	return a, err
}

func (d *Directory) domain(host string) error {
	if len(d.cfg.Domains) > 0 && !slices.Contains(d.cfg.Domains, host) {
		return fmt.Errorf("%s is none of our domains (%s)", host, strings.Join(d.cfg.Domains, ", "))
	}
	return nil
}

func (d *Directory) aliases(address string, list []string) ([]string, error) {
	var out []string
	for _, s := range list {
		if strings.TrimSpace(s) == "" {
			continue
		}
		alias, err := Address(s)
		if err != nil {
			return nil, fmt.Errorf("alias: %w", err)
		}
		if err := d.domain(alias[strings.LastIndexByte(alias, '@')+1:]); err != nil {
			return nil, fmt.Errorf("alias: %w", err)
		}
		if alias != address && !slices.Contains(out, alias) {
			out = append(out, strings.Clone(alias))
		}
	}
	return out, nil
}

func numbers(list []string) ([]string, error) {
	var out []string
	for _, s := range list {
		if strings.TrimSpace(s) == "" {
			continue
		}
		n, err := Number(s)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, n) {
			out = append(out, strings.Clone(n))
		}
	}
	return out, nil
}

func checkMaxBindings(n int) error {
	if n < 1 || n > maxMaxBindings {
		return fmt.Errorf("%d phones at once are not allowed: 1 to %d", n, maxMaxBindings)
	}
	return nil
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// Add makes an account.
func (d *Directory) Add(ctx context.Context, n New) (*Account, error) {
	a, err := d.account(n)
	if err != nil {
		return nil, fmt.Errorf("add account: %w", err)
	}
	if n.Password != "" {
		a.Credentials = a.withPassword(Credential{Kind: Initial, Name: "initial", Created: a.Created}, n.Password, d.cfg.KeepNT)
	}
	err = d.db.Write(ctx, func(tx *store.Tx) error { return d.insert(tx, []*Account{a}, 1, nil) })
	if err != nil {
		return nil, fmt.Errorf("add %s: %w", a.Address, d.taken(a, err))
	}
	return a, nil
}

// taken says which name is taken when the store only says that one is.
func (d *Directory) taken(a *Account, err error) error {
	if !errors.Is(err, store.ErrExists) {
		return err
	}
	if s := d.clash(a); s != "" {
		return fmt.Errorf("%s is %w", s, ErrTaken)
	}
	return fmt.Errorf("one of its names or numbers is %w", ErrTaken)
}

// clash gives a name or number of a that another account has.
func (d *Directory) clash(a *Account) string {
	names, numbers := a.keys()
	for _, s := range names {
		if b := d.ByLogin([]byte(s)); b != nil && b.ID != a.ID {
			return s
		}
	}
	for _, s := range numbers {
		if b := d.ByNumber([]byte(s)); b != nil && b.ID != a.ID {
			return s
		}
	}
	return ""
}

// insert numbers and stores new accounts, whose credentials are of one password each. After
// each step, stored is told how many there were; it may be nil.
func (d *Directory) insert(tx *store.Tx, list []*Account, step int, stored func(n int) error) error {
	done := make([]replacement, 0, len(list))
	for part := range slices.Chunk(list, step) {
		if err := insertStep(tx, part); err != nil {
			return err
		}
		if stored != nil {
			if err := stored(len(part)); err != nil {
				return err
			}
		}
	}
	for _, a := range list {
		done = append(done, replacement{a.ID, a})
	}
	tx.After(func() { d.replace(done...) })
	return nil
}

func insertStep(tx *store.Tx, list []*Account) error {
	id, err := tx.Number("account", int64(len(list)))
	if err != nil {
		return err
	}
	credential, err := tx.Number("credential", int64(len(list)))
	if err != nil {
		return err
	}
	accounts := make([][]any, 0, len(list))
	var keys, credentials [][]any
	for i, a := range list {
		a.ID = id + int64(i)
		for j := range a.Credentials {
			a.Credentials[j].ID = credential + int64(i)
		}
		accounts = append(accounts, accountRow(a))
		keys = append(keys, keyRows(a)...)
		if len(a.Credentials) > 0 {
			credentials = append(credentials, a.credentialRow(a.Credentials))
		}
	}
	if err := tx.Insert("account", accountInsert, accounts); err != nil {
		return err
	}
	if err := tx.Insert("account_key", keyColumns, keys); err != nil {
		return err
	}
	if err := tx.Insert("credential", credentialColumns, credentials); err != nil {
		return err
	}
	for _, a := range list {
		if err := event.Publish(tx, Added{a.who(), a.Name}); err != nil {
			return err
		}
	}
	return nil
}

func (a *Account) who() Who { return Who{a.ID, a.Rev, a.Address} }

// find reads the account with that address or alias within a change.
func find(tx *store.Tx, address string) (*Account, error) {
	list, err := load(tx, "where id = (select account from account_key where kind = 'name' and value = ?)", address)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 || !list[0].Is([]byte(address)) {
		return nil, ErrUnknown
	}
	return list[0], nil
}

// change lets f change a copy of the account, then stores it and publishes the fact that f
// gives; with none, Changed with what.
func (d *Directory) change(ctx context.Context, address, what string, f func(tx *store.Tx, a *Account) (event.Fact, error)) error {
	adr, err := Address(address)
	if err != nil {
		return err
	}
	var now *Account
	err = d.db.Write(ctx, func(tx *store.Tx) error {
		a, err := find(tx, adr)
		if err != nil {
			return err
		}
		now = a
		a.Rev++
		fact, err := f(tx, a)
		if err != nil {
			return err
		}
		if err := update(tx, a, what == "address" || what == "login" || what == "aliases" || what == "numbers"); err != nil {
			return err
		}
		if fact == nil {
			fact = Changed{a.who(), what}
		}
		if err := event.Publish(tx, fact); err != nil {
			return err
		}
		tx.After(func() { d.replace(replacement{a.ID, a}) })
		return nil
	})
	if err != nil {
		if now != nil {
			err = d.taken(now, err)
		}
		return fmt.Errorf("change %s of %s: %w", what, adr, err)
	}
	return nil
}

// Remove deletes an account with all its passwords.
func (d *Directory) Remove(ctx context.Context, address string) error {
	adr, err := Address(address)
	if err != nil {
		return err
	}
	err = d.db.Write(ctx, func(tx *store.Tx) error {
		a, err := find(tx, adr)
		if err != nil {
			return err
		}
		for _, q := range []string{"delete from credential where account = ?", "delete from account_key where account = ?",
			"delete from account where id = ?"} {
			if _, err := tx.Exec(q, a.ID); err != nil {
				return err
			}
		}
		a.Rev++
		if err := event.Publish(tx, Removed{a.who()}); err != nil {
			return err
		}
		tx.After(func() { d.replace(replacement{id: a.ID}) })
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove %s: %w", adr, err)
	}
	return nil
}
