package ident

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"fernamt/core/event"
	"fernamt/core/store"
)

// SetPassword sets the account password, which is for the web and kept as argon2id only.
// The initial password ends with it, for the web and for phones: whoever changes a password
// wants the old one to be worth nothing. Phones sign in with device passwords.
func (d *Directory) SetPassword(ctx context.Context, address, password string) error {
	if err := checkNewPassword(password); err != nil {
		return fmt.Errorf("set password of %s: %w", address, err)
	}
	hash, err := d.argonSlot(ctx, func() (string, error) { return argon(password), nil })
	if err != nil {
		return fmt.Errorf("set password of %s: %w", address, err)
	}
	return d.change(ctx, address, "password", func(tx *store.Tx, a *Account) (event.Fact, error) {
		a.password = hash
		return nil, a.dropInitial(tx)
	})
}

// SetInitial gives the account a new initial password: for phones at once, and for the web
// until an account password is set. It replaces the account password and the initial one;
// device passwords stay.
func (d *Directory) SetInitial(ctx context.Context, address, password string) error {
	if err := checkNewPassword(password); err != nil {
		return fmt.Errorf("set initial password of %s: %w", address, err)
	}
	return d.change(ctx, address, "password", func(tx *store.Tx, a *Account) (event.Fact, error) {
		a.password = ""
		if err := a.dropInitial(tx); err != nil {
			return nil, err
		}
		return nil, a.addPassword(tx, Credential{Kind: Initial, Name: "initial"}, password, d.cfg.KeepNT)
	})
}

func (a *Account) dropInitial(tx *store.Tx) error {
	var rest []Credential
	for _, c := range a.Credentials {
		if c.Kind != Initial {
			rest = append(rest, c)
		}
	}
	a.Credentials = rest
	_, err := tx.Exec("delete from credential where account = ? and kind = ?", a.ID, int64(Initial))
	return err
}

func (a *Account) addPassword(tx *store.Tx, c Credential, password string, nt bool) error {
	id, err := tx.Number("credential", 1)
	if err != nil {
		return err
	}
	c.ID, c.Created = id, time.Now()
	list := a.withPassword(c, password, nt)
	a.Credentials = append(a.Credentials, list...)
	return tx.Insert("credential", credentialColumns, [][]any{a.credentialRow(list)})
}

// argonSlot runs f, which computes argon2id, when few enough others do.
func (d *Directory) argonSlot(ctx context.Context, f func() (string, error)) (string, error) {
	select {
	case d.argon <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-d.argon }()
	return f()
}

// absent is a hash that no password has; it is checked where there is no account, so that
// an unknown name takes as long as a wrong password.
const absent = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// CheckPassword signs a person in by login name or address with the account password, or
// with the initial password, which then becomes the account password too. ErrPassword says
// that either is wrong, ErrDisabled that both are right.
func (d *Directory) CheckPassword(ctx context.Context, name, password string) (*Account, error) {
	var a *Account
	if len(name) <= maxKey && len(password) <= maxPassword {
		a = d.ByLogin([]byte(name))
	}
	if a == nil || a.password == "" && !a.initialMatches(password) {
		_, err := d.argonSlot(ctx, func() (string, error) {
			_, err := argonMatches(absent, password[:min(len(password), maxPassword)])
			return "", err
		})
		if err != nil {
			return nil, err
		}
		return nil, ErrPassword
	}
	if a.password == "" {
		return d.firstSignIn(ctx, a, password)
	}
	_, err := d.argonSlot(ctx, func() (string, error) {
		ok, err := argonMatches(a.password, password)
		if err == nil && !ok {
			err = ErrPassword
		}
		return "", err
	})
	if err != nil {
		return nil, err
	}
	if a.Disabled {
		return nil, ErrDisabled
	}
	return a, nil
}

// initialMatches compares with the initial password's hash for the address.
func (a *Account) initialMatches(password string) bool {
	for i := range a.Credentials {
		c := &a.Credentials[i]
		if c.Kind == Initial && c.User == a.Address {
			_, sum := digest(a.Address, a.Domain(), password)
			return subtle.ConstantTimeCompare(sum[:], c.SHA256[:]) == 1
		}
	}
	return false
}

// firstSignIn keeps the initial password, which was just proved, as argon2id. The hashes for
// phones stay. A full disk does not keep anyone out: it is tried again the next time.
func (d *Directory) firstSignIn(ctx context.Context, a *Account, password string) (*Account, error) {
	if a.Disabled {
		return nil, ErrDisabled
	}
	hash, err := d.argonSlot(ctx, func() (string, error) { return argon(password), nil })
	if err != nil {
		return nil, err
	}
	err = d.change(ctx, a.Address, "web password", func(_ *store.Tx, now *Account) (event.Fact, error) {
		// Someone may have set another password meanwhile; then this one is no longer right.
		if now.password != "" || !now.initialMatches(password) {
			return nil, ErrPassword
		}
		now.password = hash
		return nil, nil
	})
	if errors.Is(err, ErrPassword) {
		if now := d.ByID(a.ID); now != nil && now.password != "" && now.initialMatches(password) {
			return now, nil // two first sign-ins at once
		}
		return nil, ErrPassword
	}
	if err != nil {
		d.cfg.Log.Warn("account password not stored at first sign-in", "user", a.Address, "err", err)
		return a, nil
	}
	return d.ByID(a.ID), nil
}
