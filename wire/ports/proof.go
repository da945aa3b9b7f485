package ports

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// proofTable is written by the test run (test/seed_test.go): the result of every test that answers.tsv names.
//
//go:embed proof.tsv
var proofTable string

// Proof says how tests went: "test/interop.TestPhones/tls" → "pass", "fail", "skip", or "none" when it did not run.
type Proof map[string]string

// Recorded is the record that was made with this binary.
func Recorded() Proof { return ParseProof(proofTable) }

// ParseProof reads lines "test<tab>result"; a line that begins with # is a remark.
func ParseProof(text string) Proof {
	p := Proof{}
	for line := range strings.Lines(text) {
		test, result, ok := strings.Cut(strings.TrimRight(line, "\n"), "\t")
		if ok && !strings.HasPrefix(line, "#") {
			p[test] = result
		}
	}
	return p
}

// Passed says whether the test ran and passed.
func (p Proof) Passed(test string) bool { return p[test] == "pass" }

// String is the record as it is kept, the same for the same results.
func (p Proof) String() string {
	var b strings.Builder
	b.WriteString("# Results of the tests that answers.tsv names. Written by make test, not by hand.\n")
	for _, test := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "%s\t%s\n", test, p[test])
	}
	return b.String()
}

// ReadRun reads the output of go test -json and gives the results of the wanted tests. A test that also failed or was
// skipped in one of several runs does not count as passed. module is the prefix that package names lose: "fernamt/".
func ReadRun(r io.Reader, module string, wanted []string) (Proof, error) {
	p := Proof{}
	for _, w := range wanted {
		p[w] = "none"
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e struct{ Action, Package, Test string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // what the compiler says stands between
		}
		name := strings.TrimPrefix(e.Package, module) + "." + e.Test
		old, ok := p[name]
		if !ok || e.Action != "pass" && e.Action != "fail" && e.Action != "skip" {
			continue
		}
		if old == "none" || old == "pass" {
			p[name] = e.Action
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the test run: %w", err)
	}
	return p, nil
}
