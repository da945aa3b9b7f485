package sip

import "net/netip"

// parseAddr reads an IPv4 or IPv6 address, with or without brackets. Three colons count
// as two: an older grammar produced them.
// RFC 5118 §4.10
func parseAddr(b []byte) (netip.Addr, bool) {
	if n := len(b); n > 1 && b[0] == '[' && b[n-1] == ']' {
		return parseAddr6(b[1 : n-1])
	}
	for _, c := range b {
		if c == ':' {
			return parseAddr6(b)
		}
	}
	a, ok := parseAddr4(b)
	return netip.AddrFrom4(a), ok
}

func parseAddr4(b []byte) (a [4]byte, ok bool) {
	part, digits, n := 0, 0, 0
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			if n = n*10 + int(c-'0'); n > 255 || digits == 3 {
				return a, false
			}
			digits++
		case c == '.' && digits > 0 && part < 3:
			a[part] = byte(n)
			part, digits, n = part+1, 0, 0
		default:
			return a, false
		}
	}
	if part != 3 || digits == 0 {
		return a, false
	}
	a[3] = byte(n)
	return a, true
}

func parseAddr6(b []byte) (netip.Addr, bool) {
	var a [16]byte
	n, gap := 0, -1 // octets written, place of the double colon
	if len(b) > 1 && b[0] == ':' && b[1] == ':' {
		gap, b = 0, b[2:]
		if len(b) > 0 && b[0] == ':' {
			b = b[1:]
		}
	}
	for len(b) > 0 {
		i, v := 0, 0
		for i < len(b) && class[b[i]]&cHex != 0 && i < 5 {
			v = v<<4 | int(unhex(b[i]))
			i++
		}
		if i < len(b) && b[i] == '.' {
			a4, ok := parseAddr4(b)
			if !ok || n > 12 {
				return netip.Addr{}, false
			}
			n += copy(a[n:], a4[:])
			break
		}
		if i == 0 || i > 4 || n > 14 {
			return netip.Addr{}, false
		}
		a[n], a[n+1] = byte(v>>8), byte(v)
		n += 2
		if b = b[i:]; len(b) == 0 {
			break
		}
		if b[0] != ':' || len(b) == 1 {
			return netip.Addr{}, false
		}
		if b = b[1:]; b[0] == ':' {
			if gap >= 0 {
				return netip.Addr{}, false
			}
			gap, b = n, b[1:]
			if len(b) > 0 && b[0] == ':' {
				b = b[1:]
			}
		}
	}
	switch {
	case gap >= 0 && n < 16:
		copy(a[16-(n-gap):], a[gap:n])
		clear(a[gap : 16-(n-gap)])
	case gap >= 0 || n != 16:
		return netip.Addr{}, false
	}
	return netip.AddrFrom16(a), true
}
