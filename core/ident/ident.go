// Package ident knows the people: accounts with their addresses, names, numbers and
// passwords, and the certificates of the hosts that serve them.
//
// The whole set of accounts is held in memory as unchanging snapshots, so that a lookup by
// address, login or number neither blocks nor allocates. Functions that change an account
// are durable when they return; the snapshot is replaced before that, and facts go to the
// event log (events.go), by which the other processes on the same database follow.
//
// Realm of SIP Digest (RFC 3261 §22, RFC 8760) is the domain of the account's address. A
// phone may give its user name in three forms: the user part ("alice"), the whole address
// ("alice@example.test") or the login name; a hash is kept for each, since RFC 7616 §3.4.2
// hashes the name as the phone gave it, and so its letters' case matters too.
//
// Addresses and logins are compared without regard to ASCII case, also in the user part,
// where RFC 3261 §19.1.4 would tell them apart: people do not.
//
// Goroutines: two per Directory, from Open to Close: one reads the event log, one follows what
// it says and stores when passwords were last used. Locks: Directory.mu is held while snapshots are replaced; readers take none.
package ident

import (
	"slices"
	"strings"
	"time"
)

// Account is a snapshot of one person's account. Nothing in it ever changes; do not change it.
type Account struct {
	ID          int64
	Rev         int64    // grows with every change
	Address     string   // "alice@example.test", lower case
	Login       string   // name for signing in; the address unless set apart
	Name        string   // display name
	Aliases     []string // more addresses
	Numbers     []string // E.164 with "+", maybe with ";ext="
	Home        string   // front end or pool that serves the account; empty: any
	Disabled    bool     // may not sign in and is not found by callers
	MaxBindings int      // phones registered at once, 1 to 64
	History     History  // whether messages are kept
	Rights      []string // what the person may administer, sorted: "admin"
	Credentials []Credential
	Forwarding  Forwarding
	Created     time.Time
	password    string // argon2id; empty until the first web sign-in
}

// User is the address's part before the @.
func (a *Account) User() string { return a.Address[:strings.IndexByte(a.Address, '@')] }

// Domain is the address's part after the @, which is the Digest realm as well.
func (a *Account) Domain() string { return a.Address[strings.IndexByte(a.Address, '@')+1:] }

// May says whether the account has that right. "admin" has all.
func (a *Account) May(right string) bool {
	return slices.Contains(a.Rights, right) || slices.Contains(a.Rights, "admin")
}

// HasPassword says whether an account password for the web was set or derived.
func (a *Account) HasPassword() bool { return a.password != "" }

// Is says whether aor is the account's address or one of its aliases.
func (a *Account) Is(aor []byte) bool {
	if equalFold(aor, a.Address) {
		return true
	}
	for _, s := range a.Aliases {
		if equalFold(aor, s) {
			return true
		}
	}
	return false
}

// History is whether a person's messages are kept after delivery.
type History uint8

// The policies of History.
const (
	HistoryDefault History = iota // as the settings say
	HistoryOn
	HistoryOff
)

// Kind is what a credential is.
type Kind uint8

// The kinds of credentials.
const (
	Initial Kind = iota // first password, also good for the web until an account password is set
	Device              // generated for one phone
)

// Credential is one way to prove by SIP Digest that one is the account, for one form of the
// user name. A password has as many entries, with the same ID, as there are forms.
type Credential struct {
	ID      int64
	Name    string   // what the person calls it ("desk phone")
	User    string   // the Digest user name that the hashes are for
	MD5     [16]byte `json:"-"` // HA1, RFC 7616 §3.4.2
	SHA256  [32]byte `json:"-"` // HA1 with SHA-256, RFC 8760 §2.4
	Kind    Kind
	Initial bool      // Kind is Initial
	NT      *[16]byte `json:"-"` // hash for NTLM; nil unless kept (the lab does)
	Created time.Time
	Used    time.Time // last use that is stored; up to a few minutes behind
}

// Forwarding is where calls go beside or instead of the person's phones. A target is an
// address or a number; empty means no forwarding.
type Forwarding struct {
	Always   string   `json:"always,omitempty"`
	Busy     string   `json:"busy,omitempty"`
	NoAnswer string   `json:"no_answer,omitempty"`
	Seconds  int      `json:"seconds,omitempty"` // ringing time before NoAnswer, 5 to 180; 0: 20
	Offline  string   `json:"offline,omitempty"` // no phone is registered
	Ring     []string `json:"ring,omitempty"`    // ring at the same time, at most 8
	DND      bool     `json:"dnd,omitempty"`     // do not disturb: calls count as busy
}

// RingTime is how long phones ring before NoAnswer.
func (f *Forwarding) RingTime() time.Duration {
	if f.Seconds == 0 {
		return 20 * time.Second
	}
	return time.Duration(f.Seconds) * time.Second
}

func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != s[i] {
			return false
		}
	}
	return true
}
