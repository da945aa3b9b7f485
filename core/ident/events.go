package ident

import "fernamt/core/event"

// Who is the part that all facts of this package share.
type Who struct {
	ID      int64  `json:"id"`
	Rev     int64  `json:"rev"`
	Address string `json:"address"`
}

// Added says that an account was made.
type Added struct {
	Who
	Name string `json:"name,omitempty"`
}

// Changed says that something about an account changed.
type Changed struct {
	Who
	What string `json:"what"` // "address", "login", "name", "aliases", "numbers", "disabled", "enabled", "limits", "history", "rights", "forwarding", "password" (phones must sign in anew), "web password" (derived at the first sign-in), "device"
}

// Moved says that another front end or pool serves the account now.
type Moved struct {
	Who
	From string `json:"from"`
	To   string `json:"to"`
}

// Removed says that an account is gone.
type Removed struct{ Who }

// Kind is "user.Added".
func (Added) Kind() string { return "user.Added" }

// Kind is "user.Changed".
func (Changed) Kind() string { return "user.Changed" }

// Kind is "user.Moved".
func (Moved) Kind() string { return "user.Moved" }

// Kind is "user.Removed".
func (Removed) Kind() string { return "user.Removed" }

// Facts lists the facts of this package, for the documents.
func Facts() []event.Fact { return []event.Fact{Added{}, Changed{}, Moved{}, Removed{}} }
