// Package main reads what `go test -json` says, prints it as go test would, and
// judges the run: with CI=true a skipped test is a failure, and no password or
// nonce that a test used may stand in any output or server log.
//
//	go test -json ./... | verdict DIR
//
// DIR holds secrets (one a line, written by the tests) and *.log (what the
// servers under test said); verdict leaves test.json there.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// event is one line of `go test -json`.
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

type run struct {
	ci                      bool
	out                     io.Writer
	passed, failed, skipped int
	text                    map[string]*strings.Builder // package and test → output
	skips                   []string
	broken                  map[string]bool // packages with a failed test
	all                     strings.Builder
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go test -json ./... | verdict DIR")
		os.Exit(2)
	}
	dir := os.Args[1]
	record, err := os.Create(filepath.Join(dir, "test.json"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	r := &run{ci: os.Getenv("CI") == "true", out: os.Stdout, text: map[string]*strings.Builder{}, broken: map[string]bool{}}
	r.read(io.TeeReader(os.Stdin, record))
	if err := record.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	r.secrets(dir)
	if !r.close() {
		os.Exit(1)
	}
}

func (r *run) read(in io.Reader) {
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 64<<20)
	for sc.Scan() {
		var e event
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			fmt.Fprintln(r.out, sc.Text()) // not JSON: the go command itself
			r.all.WriteString(sc.Text() + "\n")
			continue
		}
		r.take(e)
	}
}

func (r *run) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		if e.Action == "build-output" {
			fmt.Fprint(r.out, e.Output)
		}
		if r.text[key] == nil {
			r.text[key] = &strings.Builder{}
		}
		r.text[key].WriteString(e.Output)
		r.all.WriteString(e.Output)
	case "pass", "fail", "skip":
		r.ended(e, key)
	}
}

// ended counts tests; a package counts only when it fails without a failed test.
func (r *run) ended(e event, key string) {
	said := ""
	if b := r.text[key]; b != nil {
		said = b.String()
	}
	delete(r.text, key)
	switch {
	case e.Test == "" && e.Action == "fail":
		if !r.broken[e.Package] { // it does not build, or ended by itself
			r.failed++
			fmt.Fprint(r.out, said)
		}
		fmt.Fprintf(r.out, "FAIL\t%s\t%.1fs\n", e.Package, e.Elapsed)
	case e.Test == "" && e.Action == "pass":
		fmt.Fprintf(r.out, "ok  \t%s\t%.1fs\n", e.Package, e.Elapsed)
	case e.Test == "":
	case e.Action == "pass":
		r.passed++
	case e.Action == "skip":
		r.skipped++
		r.skips = append(r.skips, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(said)))
	default:
		r.failed++
		r.broken[e.Package] = true
		fmt.Fprintf(r.out, "--- FAIL: %s %s (%.1fs)\n%s", e.Package, e.Test, e.Elapsed, said)
	}
}

// reason takes "file.go:12: why" out of a skipped test's output.
func reason(said string) string {
	for line := range strings.Lines(said) {
		if _, why, ok := strings.Cut(line, ".go:"); ok {
			return strings.TrimSpace(why)
		}
	}
	return "no reason given"
}

// secrets searches everything that was said for what should never be said.
func (r *run) secrets(dir string) {
	b, err := os.ReadFile(filepath.Join(dir, "secrets"))
	if err != nil {
		fmt.Fprintln(r.out, "no test left a list of its secrets")
		return
	}
	words := strings.Fields(string(b))
	slices.Sort(words)
	words = slices.Compact(words)
	texts := map[string]string{"the tests' output": r.all.String()}
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, l := range logs {
		if b, err := os.ReadFile(l); err == nil {
			texts[filepath.Base(l)] = string(b)
		}
	}
	found := 0
	for where, text := range texts {
		for i, w := range words {
			switch at := strings.Index(text, w); {
			case len(w) < 6:
				fmt.Fprintf(r.out, "secret %d is too short to be searched for\n", i+1)
				found++
			case at >= 0:
				line := strings.Count(text[:at], "\n") + 1
				fmt.Fprintf(r.out, "secret %d of %d stands in %s, line %d\n", i+1, len(words), where, line)
				found++
			}
		}
	}
	r.failed += found
	if found == 0 {
		r.passed++
		fmt.Fprintf(r.out, "searched the output and %d logs for %d passwords and nonces: none found\n", len(logs), len(words))
	}
}

func (r *run) close() bool {
	for _, s := range r.skips {
		fmt.Fprintln(r.out, "left out:", s)
	}
	if r.ci && r.skipped > 0 {
		fmt.Fprintf(r.out, "%d tests were left out; with CI=true that is a failure\n", r.skipped)
		r.failed += r.skipped
	}
	if r.passed+r.failed == 0 {
		fmt.Fprintln(r.out, "no test ran")
		r.failed++
	}
	fmt.Fprintf(r.out, "%d passed, %d failed\n", r.passed, r.failed)
	return r.failed == 0
}
