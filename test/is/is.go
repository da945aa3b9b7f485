// Package is holds the few helpers that tests share.
package is

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Equal fails when got and want differ.
func Equal[T any](t testing.TB, got, want T, note ...string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s\n got %v\nwant %v", strings.Join(note, " "), show(got), show(want))
	}
}

// NoErr ends the test when err is not nil.
func NoErr(t testing.TB, err error, note ...string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(note, " "), err)
	}
}

// Err fails unless err is there and its text holds part.
func Err(t testing.TB, err error, part string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", part)
	} else if !strings.Contains(err.Error(), part) {
		t.Errorf("error %q, want one with %q", err, part)
	}
}

// True fails when ok is false.
func True(t testing.TB, ok bool, note ...string) {
	t.Helper()
	if !ok {
		t.Error(strings.Join(note, " "))
	}
}

// Secret notes passwords and nonces that a test uses: the end of make test searches
// every output and every server's log for them. Words under six letters cannot be
// searched for.
func Secret(words ...string) {
	dir := os.Getenv("FERNAMT_TEST_DIR")
	if dir == "" {
		return
	}
	f, err := os.OpenFile(filepath.Join(dir, "secrets"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	for _, w := range words {
		fmt.Fprintln(f, w)
	}
}

func show(v any) any {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	return v
}
