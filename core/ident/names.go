package ident

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Address gives an address as accounts hold it: without "sip:", ASCII letters in lower case.
func Address(s string) (string, error) {
	s = strings.TrimSpace(s)
	if i := strings.IndexByte(s, ':'); i >= 0 {
		if scheme := strings.ToLower(s[:i]); scheme == "sip" || scheme == "sips" {
			s = s[i+1:]
		}
	}
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return "", fmt.Errorf("%q is not an address: it needs the form user@domain", s)
	}
	if err := checkUser(s[:at]); err != nil {
		return "", fmt.Errorf("%q is not an address: %w", s, err)
	}
	if err := checkHost(s[at+1:]); err != nil {
		return "", fmt.Errorf("%q is not an address: %w", s, err)
	}
	if len(s) > maxKey {
		return "", fmt.Errorf("address is longer than %d octets", maxKey)
	}
	return lowerASCII(s), nil
}

func checkUser(s string) error {
	if s == "" {
		return errors.New("nothing before the @")
	}
	if !utf8.ValidString(s) {
		return errors.New("not UTF-8")
	}
	for _, r := range s {
		// ":" would end the name in Digest (RFC 7617 §2) and begin a password in a URI.
		if unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`@:<>"\,;?%`, r) {
			return fmt.Errorf("%q may not stand before the @", r)
		}
	}
	return nil
}

func checkHost(s string) error {
	if len(s) == 0 || len(s) > 253 {
		return errors.New("the domain is empty or too long")
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("%q is not a domain name", s)
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return fmt.Errorf("%q is not a domain name (international names are written in their xn-- form)", s)
			}
		}
	}
	return nil
}

// Number gives a telephone number as accounts hold it: "+" and 3 to 15 digits (ITU-T E.164),
// maybe an extension (RFC 3966 §5.3). Visual separators and "tel:" are taken away.
func Number(s string) (string, error) {
	n := strings.TrimSpace(s)
	if len(n) > 4 && strings.EqualFold(n[:4], "tel:") {
		n = n[4:]
	}
	n, ext, extended := strings.Cut(n, ";ext=")
	var out strings.Builder
	for i, r := range strings.TrimSpace(n) {
		switch {
		case r == '+' && i == 0, '0' <= r && r <= '9':
			out.WriteRune(r)
		case !strings.ContainsRune("-. ()/", r):
			return "", fmt.Errorf("%q is not a telephone number", s)
		}
	}
	n = out.String()
	if !strings.HasPrefix(n, "+") {
		return "", fmt.Errorf("telephone number %q needs the form +country number; an extension goes into an alias", s)
	}
	if len(n) < 4 || len(n) > 16 || n[1] == '0' {
		return "", fmt.Errorf("%q is not a telephone number of 3 to 15 digits behind the +", s)
	}
	if !extended {
		return n, nil
	}
	if ext == "" || len(ext) > 10 || strings.Trim(ext, "0123456789") != "" {
		return "", fmt.Errorf("telephone number %q has an extension that is not 1 to 10 digits", s)
	}
	return n + ";ext=" + ext, nil
}

// login checks a login name: an address, or a word without @.
func login(s string) (string, error) {
	if strings.Contains(s, "@") {
		return Address(s)
	}
	if err := checkUser(s); err != nil {
		return "", fmt.Errorf("%q is not a login name: %w", s, err)
	}
	if len(s) > maxKey {
		return "", fmt.Errorf("login name is longer than %d octets", maxKey)
	}
	return lowerASCII(s), nil
}

// display checks a display name.
func display(s string) (string, error) {
	s = strings.TrimSpace(s)
	if len(s) > 256 || !utf8.ValidString(s) {
		return "", errors.New("display name is longer than 256 octets or not UTF-8")
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "", errors.New("display name holds control characters")
	}
	return s, nil
}

func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// target checks where a call is forwarded to: an address or a number.
func target(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if strings.Contains(s, "@") {
		return Address(s)
	}
	return Number(s)
}
