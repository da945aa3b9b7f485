package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fernamt/test/is"
)

// TestDocumentsAreFresh: what `make gen` would write is what stands in doc/.
func TestDocumentsAreFresh(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	stale, err := generate(true, "")
	is.NoErr(t, err)
	for _, name := range stale {
		t.Errorf("doc/%s is stale: run make gen", name)
	}
}

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		is.NoErr(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		is.NoErr(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

func TestEvents(t *testing.T) {
	dir := tree(t, map[string]string{"core/x/events.go": `package x

// Who is shared.
type Who struct {
	ID int64 ` + "`json:\"id\"`" + ` // of the account
}

// Added says that one was made.
type Added struct {
	Who
	Names []string
}

// Kind is "x.Added".
func (Added) Kind() string { return "x.Added" }

type recorder struct{ n int }
`, "core/x/x.go": "package x\n\n// Other is no fact.\ntype Other struct{ A int }\n"})
	text, err := events(dir)
	is.NoErr(t, err)
	_, facts, _ := strings.Cut(string(text), "position.\n")
	is.Equal(t, facts, "\n## x.Added\n\nAdded says that one was made.\n\n| field | type | |\n|---|---|---|\n| id | int64 | of the account |\n| Names | list of string |  |\n")
}

// A reference to a document without a line in specs.tsv is an error; places come in
// the order of sections.
func TestSpecs(t *testing.T) {
	dir := tree(t, map[string]string{
		"core/x/x.go":   "// Package x is RFC 9999 §10.2, §9 and RFC 9999.\npackage x\n\n// TODO RFC 9999 §3: the rest\n",
		"doc/specs.tsv": "RFC 9999\tpartly\tA title\nRFC 10000\tno\tAnother\n",
	})
	text, err := specs(dir)
	is.NoErr(t, err)
	for _, want := range []string{"| RFC 9999 | partly | A title |\n| RFC 10000 | no | Another |", "## Unfinished\n\n- RFC 9999 §3: the rest"} {
		is.True(t, bytes.Contains(text, []byte(want)), string(text))
	}
	is.True(t, bytes.Index(text, []byte("- §9:")) < bytes.Index(text, []byte("- §10.2:")), string(text))
	is.NoErr(t, os.WriteFile(filepath.Join(dir, "doc/specs.tsv"), nil, 0o644))
	_, err = specs(dir)
	is.True(t, err != nil && strings.Contains(err.Error(), "no line in doc/specs.tsv"), "an unknown document")
}
