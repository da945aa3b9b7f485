package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Duration is a time.Duration written as "30s", "5m" or "1h30m". A role uses
// time.Duration itself.
type Duration time.Duration

// UnmarshalText reads "30s".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("must be a duration such as \"30s\" or \"5m\"")
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes it as people do: "10m", not "10m0s".
func (d Duration) MarshalText() ([]byte, error) {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return []byte(s), nil
}

// Net is an address or a network: "127.0.0.1", "10.0.0.0/8", "2001:db8::/32".
type Net struct{ netip.Prefix }

// UnmarshalText reads an address as the network of that one address.
func (n *Net) UnmarshalText(b []byte) error {
	if a, err := netip.ParseAddr(string(b)); err == nil && a.Zone() == "" {
		a = a.Unmap()
		n.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(string(b))
	if err != nil {
		return fmt.Errorf("must be an address or a network such as \"127.0.0.1\" or \"10.0.0.0/8\"")
	}
	n.Prefix = p.Masked()
	return nil
}

// MarshalText writes a single address without its length.
func (n Net) MarshalText() ([]byte, error) {
	if n.IsValid() && n.IsSingleIP() {
		return []byte(n.Addr().String()), nil
	}
	return []byte(n.Prefix.String()), nil
}

// Contains says whether a lies in one of the networks.
func Contains(nets []Net, a netip.Addr) bool {
	a = a.Unmap()
	for _, n := range nets {
		if n.Prefix.Contains(a) {
			return true
		}
	}
	return false
}

// Secret names a file that holds a secret. The secret itself never stands in the
// settings.
type Secret struct{ file string }

// SecretIn returns the secret that stands in a file.
func SecretIn(file string) Secret { return Secret{file} }

// UnmarshalText reads "file:NAME". The error does not repeat what stood there: it may
// be the secret.
func (s *Secret) UnmarshalText(b []byte) error {
	name, ok := strings.CutPrefix(string(b), "file:")
	if !ok || name == "" {
		if len(b) == 0 {
			*s = Secret{}
			return nil
		}
		return fmt.Errorf("must be file:NAME; secrets stand in files of their own")
	}
	s.file = name
	return nil
}

// MarshalText writes file:NAME.
func (s Secret) MarshalText() ([]byte, error) {
	if s.file == "" {
		return nil, nil
	}
	return []byte("file:" + s.file), nil
}

// String is file:NAME, never the secret.
func (s Secret) String() string {
	b, _ := s.MarshalText()
	return string(b)
}

// File is the file's name; "" when no secret is set.
func (s Secret) File() string { return s.file }

// Read returns the secret without white space at its end. A relative name counts from
// dir. A file that others may read is refused.
func (s Secret) Read(dir string) (string, error) {
	if s.file == "" {
		return "", nil
	}
	name := s.file
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	st, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	if st.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("%s may be read by everybody: chmod o-rwx %s", name, name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), " \t\r\n"), nil
}

// Nearest returns the candidate that word was probably meant to be, or "".
func Nearest(word string, candidates []string) string {
	best, at := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < at {
			best, at = c, d
		}
	}
	return best
}

// distance counts the letters to change, add, drop or swap.
func distance(a, b string) int {
	prev2, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, prev2
	}
	return prev[len(b)]
}
