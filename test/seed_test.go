package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"fernamt/test/is"
	"fernamt/wire/ports"
)

// roleNames are the roles of the design. A row that nobody claims yet is deferred to one of them by name.
const roleNames = `frontend director focus imconf avconf phoneconf shareconf webconf attendant announce hunt outside
mediation edge groupchat archive monitor webaccess webparts proxy balance manage`

const recordFile = "../wire/ports/proof.tsv"

// claim is a door in the source that names rows of the seed.
type claim struct {
	place, door string
	rows        []string
}

// doorClaims reads every door that the source declares with a Seed field, and where.
func doorClaims(root string) ([]claim, error) {
	var found []claim
	err := eachFile(root, func(path string, file *ast.File, files *token.FileSet) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			c := claim{place: files.Position(lit.Pos()).String()}
			for _, e := range lit.Elts {
				kv, ok := e.(*ast.KeyValueExpr)
				if !ok {
					continue
				}
				switch key, _ := kv.Key.(*ast.Ident); {
				case key == nil:
				case key.Name == "Name":
					c.door = firstString(kv.Value)
				case key.Name == "Seed":
					c.rows = allStrings(kv.Value)
				}
			}
			if len(c.rows) > 0 {
				found = append(found, c)
			}
			return true
		})
	})
	return found, err
}

// eachFile parses every Go file of the tree but testdata's.
func eachFile(root string, do func(path string, f *ast.File, files *token.FileSet)) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules" || len(d.Name()) > 1 && d.Name()[0] == '.' && d.Name() != "..") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil // the house test says so
		}
		do(path, f, files)
		return nil
	})
}

func allStrings(n ast.Node) (all []string) {
	ast.Inspect(n, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			s, _ := strconv.Unquote(lit.Value)
			all = append(all, s)
		}
		return true
	})
	return all
}

func firstString(n ast.Node) string {
	if all := allStrings(n); len(all) > 0 {
		return all[0]
	}
	return ""
}

// judgeClaims complains of rows that are nobody's, and of doors that claim what is another's.
func judgeClaims(plans []ports.Plan, claims []claim) (bad []string) {
	roles := strings.Fields(roleNames)
	owner := map[string]string{}
	claimed := map[string]bool{}
	for _, p := range plans {
		owner[p.ID] = p.Role
	}
	for _, c := range claims {
		for _, row := range c.rows {
			claimed[row] = true
			role, _, named := strings.Cut(c.door, "/")
			switch {
			case owner[row] == "":
				bad = append(bad, fmt.Sprintf("%s: the seed has no row %q", c.place, row))
			case named && role != owner[row]: // a name that is a constant is not seen here
				bad = append(bad, fmt.Sprintf("%s: door %s claims %s, which answers.tsv gives to %s", c.place, c.door, row, owner[row]))
			}
		}
	}
	for _, p := range plans {
		for _, door := range strings.Fields(p.Door) {
			if role, _, _ := strings.Cut(door, "/"); !slices.Contains(roles, role) {
				bad = append(bad, fmt.Sprintf("%s: door %s is of no role of the design", p.ID, door))
			}
		}
		if !slices.Contains(roles, p.Role) {
			bad = append(bad, fmt.Sprintf("%s: %s is no role of the design", p.ID, p.Role))
		}
		if len(p.Tests) > 0 && !claimed[p.ID] {
			bad = append(bad, fmt.Sprintf("%s: answers.tsv names a test, and no door claims the row", p.ID))
		}
	}
	return bad
}

// judgeProofs complains of tests that are named and are not there, and of recorded results that are no proof.
func judgeProofs(plans []ports.Plan, exists map[string]bool, record ports.Proof) (bad []string) {
	named := map[string]bool{}
	for _, p := range plans {
		for _, test := range p.Tests {
			named[test] = true
			top, _, _ := strings.Cut(test[strings.LastIndex(test, ".")+1:], "/")
			if !exists[test[:strings.LastIndex(test, ".")+1]+top] {
				bad = append(bad, fmt.Sprintf("%s: the tree has no test %s", p.ID, test))
			}
			if result, ok := record[test]; ok && result != "pass" {
				bad = append(bad, fmt.Sprintf("%s: its test %s did not pass in the last run: %s", p.ID, test, result))
			}
		}
	}
	for test := range record {
		if !named[test] {
			bad = append(bad, fmt.Sprintf("%s holds %s, which no row names", recordFile, test))
		}
	}
	slices.Sort(bad)
	return bad
}

// treeTests are the tests of the tree: "wire/ports.TestCheck".
func treeTests(root string) (map[string]bool, error) {
	tests := map[string]bool{}
	err := eachFile(root, func(path string, f *ast.File, _ *token.FileSet) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				tests[filepath.ToSlash(dir)+"."+fn.Name.Name] = true
			}
		}
	})
	return tests, err
}

func complain(t *testing.T, bad []string) {
	t.Helper()
	for _, b := range bad {
		t.Error(b)
	}
}

func TestSeedCopies(t *testing.T) {
	ours, err := os.ReadFile("testdata/PORTS.tsv")
	is.NoErr(t, err)
	theirs, err := os.ReadFile("../wire/ports/seed.tsv")
	is.NoErr(t, err)
	is.True(t, string(ours) == string(theirs), "wire/ports/seed.tsv is not test/testdata/PORTS.tsv")
	_, err = ports.ParseSeed(string(ours))
	is.NoErr(t, err)
}

func TestSeedRows(t *testing.T) {
	plans, err := ports.Plans()
	is.NoErr(t, err)
	claims, err := doorClaims("..")
	is.NoErr(t, err)
	complain(t, judgeClaims(plans, claims))
	exists, err := treeTests("..")
	is.NoErr(t, err)
	complain(t, judgeProofs(plans, exists, ports.Recorded()))
}

// TestSeedRun holds the record against a run of all tests: FERNAMT_RUN names the output of go test -json. It writes the
// record anew, so that the next binary answers by this run; with CI=true it must be what is committed.
func TestSeedRun(t *testing.T) {
	plans, err := ports.Plans()
	is.NoErr(t, err)
	old, err := os.ReadFile(recordFile)
	is.NoErr(t, err)
	log := os.Getenv("FERNAMT_RUN")
	if log == "" {
		is.Equal(t, ports.ParseProof(string(old)).String(), string(old), "the record is not as it is written")
		return
	}
	f, err := os.Open(log)
	is.NoErr(t, err)
	defer f.Close()
	var wanted []string
	for _, p := range plans {
		wanted = append(wanted, p.Tests...)
	}
	now, err := ports.ReadRun(f, "fernamt/", wanted)
	is.NoErr(t, err)
	exists, err := treeTests("..")
	is.NoErr(t, err)
	complain(t, judgeProofs(plans, exists, now))
	if now.String() == string(old) {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Errorf("%s is not what this run says: commit what make test writes\n%s", recordFile, now)
		return
	}
	is.NoErr(t, os.WriteFile(recordFile, []byte(now.String()), 0o644))
}

func TestSeedRulesCanFail(t *testing.T) {
	plan := func(role, door string, tests ...string) []ports.Plan {
		return []ports.Plan{{ID: "R01", Role: role, Door: door, Tests: tests, Whole: true}}
	}
	there := map[string]bool{"test/interop.TestPhones": true}
	const phones = "test/interop.TestPhones"
	mine := []claim{{"x.go:1", "frontend/sip", []string{"R01"}}}
	for _, c := range []struct {
		name   string
		plans  []ports.Plan
		claims []claim
		record ports.Proof
		want   string // "" for no complaint
	}{
		{"deferred by name", plan("frontend", "frontend/sip"), nil, nil, ""},
		{"proved", plan("frontend", "frontend/sip", phones+"/tls"), mine, ports.Proof{phones + "/tls": "pass"}, ""},
		{"proved, not yet recorded", plan("frontend", "frontend/sip", phones), mine, nil, ""},
		{"nobody's", plan("", "frontend/sip"), nil, nil, "no role of the design"},
		{"unknown role", plan("doorman", "doorman/sip"), nil, nil, "doorman is no role"},
		{"proof without a door", plan("frontend", "frontend/sip", phones), nil, nil, "no door claims the row"},
		{"another's row", plan("director", "director/sip"), mine, nil, "gives to director"},
		{"no such row", plan("frontend", "frontend/sip"), []claim{{"x.go:1", "frontend/sip", []string{"R99"}}}, nil, `no row "R99"`},
		{"missing test", plan("frontend", "frontend/sip", "test/interop.TestGone"), mine, nil, "has no test"},
		{"skipped test", plan("frontend", "frontend/sip", phones), mine, ports.Proof{phones: "skip"}, "did not pass in the last run: skip"},
		{"failed test", plan("frontend", "frontend/sip", phones), mine, ports.Proof{phones: "fail"}, "fail"},
		{"test that did not run", plan("frontend", "frontend/sip", phones), mine, ports.Proof{phones: "none"}, "none"},
		{"record of an unnamed test", plan("frontend", "frontend/sip"), mine, ports.Proof{phones: "pass"}, "which no row names"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := strings.Join(append(judgeClaims(c.plans, c.claims), judgeProofs(c.plans, there, c.record)...), "\n")
			if c.want == "" {
				is.Equal(t, bad, "")
				return
			}
			is.True(t, strings.Contains(bad, c.want), "complaints:", bad)
		})
	}
}
