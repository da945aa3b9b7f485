package ports

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Rows is how many rows the seed's table has.
const Rows = 73

// Check holds every door for itself, and each against the others. The error joins all that is wrong.
func Check(ps []Port) error {
	var errs []error
	for _, p := range ps {
		if err := p.Check(); err != nil {
			errs = append(errs, err)
		}
	}
	for i, a := range ps {
		for _, b := range ps[i+1:] {
			if err := Clash(a, b); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Check holds one door against the rules that need no other.
func (p Port) Check() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("door %s: "+format, append([]any{p}, args...)...)
	}
	owner, door, ok := strings.Cut(p.Name, "/")
	switch {
	case !ok || owner == "" || door == "" || strings.ContainsAny(p.Name, " \t"):
		return wrong("the name must be role/door")
	case p.Transport != UDP && p.Transport != TCP:
		return wrong("the transport must be UDP or TCP")
	case p.From < 1 || p.Last() > 65535 || p.Last() < p.From:
		return wrong("numbers run from 1 to 65535, the smaller first")
	case p.Use == Listen && p.Last() != p.From:
		return wrong("a listening door has one number, a range is drawn from")
	case p.Use == Draw && p.Transport != UDP:
		return wrong("only udp numbers are drawn")
	case p.Use > Draw || p.Side > Loopback || p.TLS > Mutual:
		return wrong("unknown use, side or TLS")
	case p.TLS != None && p.Transport == UDP:
		return wrong("TLS needs tcp")
	case p.Protocol == "":
		return wrong("the protocol is missing")
	case p.Purpose == "" || p.Zweck == "":
		return wrong("the purpose is missing in English or German")
	}
	for _, id := range p.Seed {
		if !ValidRow(id) {
			return wrong("the seed has no row %q", id)
		}
	}
	return nil
}

// ValidRow says whether id names a row of the seed: R01 to R73.
func ValidRow(id string) bool {
	var n int
	if _, err := fmt.Sscanf(id, "R%02d", &n); err != nil {
		return false
	}
	return id == fmt.Sprintf("R%02d", n) && n >= 1 && n <= Rows
}

// Clash says why two doors cannot both be on one host, naming both owners; nil when they can.
func Clash(a, b Port) error {
	if a.Name == b.Name {
		return fmt.Errorf("door %s is declared twice: %s and %s", a.Name, a, b)
	}
	if a.Use == Draw && b.Use == Listen {
		a, b = b, a
	}
	if a.Use == Listen && b.Use == Draw {
		// A range is only a right to draw, but a fixed number inside would depend on luck.
		if a.From >= b.From && a.From <= b.Last() {
			return fmt.Errorf("door %s stands inside the range of %s", a, b)
		}
		return nil
	}
	if a.Use != Listen || b.Use != Listen || a.Transport != b.Transport || a.Side != b.Side || a.From != b.From {
		return nil
	}
	return CannotShare(a, b)
}

// CannotShare says why two listening doors cannot have one socket; nil when a connection's first octets, its server
// name or its ALPN tell them apart, or when both speak SIP and core/route tells them apart by address.
func CannotShare(a, b Port) error {
	why := ""
	switch fa, fb := a.Family(), b.Family(); {
	case fa == SIP && fb == SIP:
	case a.Transport == UDP:
		why = "one udp socket carries one protocol"
	case a.TLS != None && b.TLS != None && disjoint(a.Names, b.Names):
	case (a.TLS == None) != (b.TLS == None) && fa != Other && fb != Other:
	case fa == Other || fb == Other:
		why = "the first octets do not tell " + a.Protocol + " and " + b.Protocol + " apart"
	case fa == fb:
		why = "both speak " + a.Protocol + " and have no server names of their own"
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("doors %s and %s clash: %s", a, b, why)
}

// disjoint says that both lists have names and that none is in both.
func disjoint(a, b []string) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	return !slices.ContainsFunc(a, func(n string) bool {
		return slices.ContainsFunc(b, func(m string) bool { return strings.EqualFold(n, m) })
	})
}
