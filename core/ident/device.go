package ident

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"fernamt/core/event"
	"fernamt/core/store"
)

// maxDevices keeps the number of hashes that a sign-in may be compared with small.
const maxDevices = 32

// NewDevice is a device password just made: the only time that it is shown.
type NewDevice struct {
	ID       int64
	Name     string
	User     string // user name to set in the phone; the address and the login name do as well
	Realm    string
	Password string
}

// DeviceInfo describes a device password without giving it away.
type DeviceInfo struct {
	ID      int64
	Name    string
	Initial bool // it is the initial password, not one for a device
	Created time.Time
	Used    time.Time // zero: never
}

// AddDevice makes a password for one phone. Without a name it is called "phone 1" and so on.
func (d *Directory) AddDevice(ctx context.Context, address, name string) (NewDevice, error) {
	name, err := display(name)
	if err != nil {
		return NewDevice{}, fmt.Errorf("add device: %w", err)
	}
	var made NewDevice
	err = d.change(ctx, address, "device", func(tx *store.Tx, a *Account) (event.Fact, error) {
		names := map[string]bool{}
		for _, c := range a.Credentials {
			if c.Kind == Device {
				names[c.Name] = true
			}
		}
		if len(names) >= maxDevices {
			return nil, fmt.Errorf("there are %d device passwords already: revoke one first", len(names))
		}
		chosen := name
		for i := 1; chosen == "" || name == "" && names[chosen]; i++ {
			chosen = "phone " + strconv.Itoa(i)
		}
		if names[chosen] {
			return nil, fmt.Errorf("device %q is there already", chosen)
		}
		password := generate()
		if err := a.addPassword(tx, Credential{Kind: Device, Name: chosen}, password, d.cfg.KeepNT); err != nil {
			return nil, err
		}
		made = NewDevice{a.Credentials[len(a.Credentials)-1].ID, chosen, a.User(), a.Domain(), password}
		return nil, nil
	})
	if err != nil {
		return NewDevice{}, err
	}
	return made, nil
}

// RevokeDevice ends a device password, given by its name or its number.
func (d *Directory) RevokeDevice(ctx context.Context, address, device string) error {
	return d.change(ctx, address, "device", func(tx *store.Tx, a *Account) (event.Fact, error) {
		id := int64(-1)
		for _, c := range a.Credentials {
			if c.Kind == Device && (c.Name == device || strconv.FormatInt(c.ID, 10) == device) {
				id = c.ID
				break
			}
		}
		if id < 0 {
			return nil, fmt.Errorf("%q: %w", device, ErrDevice)
		}
		a.Credentials = slices.DeleteFunc(a.Credentials, func(c Credential) bool { return c.ID == id })
		n, err := tx.Exec("delete from credential where id = ? and account = ?", id, a.ID)
		if err == nil && n != 1 {
			err = errors.New("it is gone already")
		}
		return nil, err
	})
}

// ListDevices lists the device passwords of an account, and the initial one while it is valid.
func (d *Directory) ListDevices(address string) ([]DeviceInfo, error) {
	a, err := d.Show(address)
	if err != nil {
		return nil, err
	}
	var list []DeviceInfo
	for i := range a.Credentials {
		c := &a.Credentials[i]
		if n := len(list); n > 0 && list[n-1].ID == c.ID {
			continue
		}
		list = append(list, DeviceInfo{c.ID, c.Name, c.Initial, c.Created, d.lastUse(c)})
	}
	return list, nil
}
