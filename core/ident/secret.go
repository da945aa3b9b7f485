package ident

import (
	"fmt"
	"log/slog"
)

// What holds secrets tells only harmless things of itself, wherever it is printed or logged.

// String gives the address.
func (a *Account) String() string { return a.Address }

// LogValue gives the address.
func (a *Account) LogValue() slog.Value { return slog.StringValue(a.Address) }

// String gives name and number.
func (c Credential) String() string { return fmt.Sprintf("%s (#%d, %s)", c.Name, c.ID, c.User) }

// GoString is String.
func (c Credential) GoString() string { return c.String() }

// LogValue is String.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// String gives the address.
func (n New) String() string { return n.Address }

// GoString is String.
func (n New) GoString() string { return n.String() }

// LogValue gives the address.
func (n New) LogValue() slog.Value { return slog.StringValue(n.Address) }

// String gives name and number.
func (n NewDevice) String() string { return fmt.Sprintf("%s (#%d)", n.Name, n.ID) }

// GoString is String.
func (n NewDevice) GoString() string { return n.String() }

// LogValue is String.
func (n NewDevice) LogValue() slog.Value { return slog.StringValue(n.String()) }
