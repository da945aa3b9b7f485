package ident

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"

	"golang.org/x/crypto/argon2"
	//lint:ignore SA1019 the NT hash is MD4, whatever is thought of it
	"golang.org/x/crypto/md4"
)

// Cost of argon2id: OWASP's first recommendation (19 MiB, 2 passes, 1 lane), about 30 ms here.
// A stored hash carries its own cost, so these may grow.
const (
	argonMemory = 19 * 1024 // KiB
	argonTime   = 2
	argonLanes  = 1
	argonAtOnce = 2 // computed at the same time; each takes argonMemory
)

const maxPassword = 256

func checkNewPassword(p string) error {
	if p == "" {
		return errors.New("password is empty")
	}
	if len(p) > maxPassword {
		return fmt.Errorf("password is longer than %d octets", maxPassword)
	}
	if strings.ContainsFunc(p, unicode.IsControl) {
		return errors.New("password holds control characters")
	}
	return nil
}

// digest gives HA1 (RFC 7616 §3.4.2, RFC 8760 §2.4). password may be the only secret: none
// of the arguments ever goes into an error.
func digest(user, realm, password string) (m [16]byte, s [32]byte) {
	b := make([]byte, 0, 128)
	b = append(b, user...)
	b = append(b, ':')
	b = append(b, realm...)
	b = append(b, ':')
	b = append(b, password...)
	m, s = md5.Sum(b), sha256.Sum256(b)
	clear(b)
	return m, s
}

// ntHash is the hash that NTLM builds on, [MS-NLMP] §3.3.1.
func ntHash(password string) *[16]byte {
	h := md4.New()
	for _, u := range utf16.Encode([]rune(password)) {
		h.Write([]byte{byte(u), byte(u >> 8)})
	}
	return (*[16]byte)(h.Sum(nil))
}

// argon gives the hash that is stored for the web, in the PHC string format.
func argon(password string) string {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails since Go 1.24
	key := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonLanes, 32)
	enc := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		enc.EncodeToString(salt), enc.EncodeToString(key))
}

// argonMatches says whether password belongs to the stored hash.
func argonMatches(stored, password string) (bool, error) {
	var version, memory, time, lanes int
	part := strings.Split(stored, "$")
	bad := errors.New("stored password hash cannot be read")
	if len(part) != 6 || part[1] != "argon2id" {
		return false, bad
	}
	if _, err := fmt.Sscanf(part[2], "v=%d", &version); err != nil || version != argon2.Version {
		return false, bad
	}
	_, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &memory, &time, &lanes)
	if err != nil || memory < 8 || memory > 1<<21 || time < 1 || time > 64 || lanes < 1 || lanes > 64 {
		return false, bad
	}
	salt, err := base64.RawStdEncoding.DecodeString(part[4])
	if err != nil {
		return false, bad
	}
	want, err := base64.RawStdEncoding.DecodeString(part[5])
	if err != nil || len(want) == 0 {
		return false, bad
	}
	got := argon2.IDKey([]byte(password), salt, uint32(time), uint32(memory), uint8(lanes), uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

// letters of generated passwords: nothing that looks like something else, or needs Shift.
const letters = "abcdefghijkmnpqrstuvwxyz23456789"

// generate makes a password of 80 random bits that can be read out and typed: "k7mq-x2pd-9vwt-h4ns".
func generate() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails since Go 1.24
	out := make([]byte, 0, 19)
	for i, b := range raw {
		if i > 0 && i%4 == 0 {
			out = append(out, '-')
		}
		out = append(out, letters[b%32])
	}
	return string(out)
}

// forms lists the Digest user names of an account.
func (a *Account) forms() []string {
	list := []string{a.User(), a.Address}
	if a.Login != a.Address && a.Login != a.User() {
		list = append(list, a.Login)
	}
	return list
}

// withPassword gives the entries of one password.
func (a *Account) withPassword(c Credential, password string, nt bool) []Credential {
	if nt {
		c.NT = ntHash(password)
	}
	c.Initial = c.Kind == Initial
	var list []Credential
	for _, user := range a.forms() {
		c.User = user
		c.MD5, c.SHA256 = digest(user, a.Domain(), password)
		list = append(list, c)
	}
	return list
}
