package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fernamt/test/is"
)

const log = `{"Action":"output","Package":"p","Test":"TestA","Output":"hello\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    x_test.go:3: needs baresip\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}
`

func judge(t *testing.T, ci bool, lines, secrets, serverLog string) (string, bool) {
	t.Helper()
	dir := t.TempDir()
	is.NoErr(t, os.WriteFile(filepath.Join(dir, "secrets"), []byte(secrets), 0o600))
	is.NoErr(t, os.WriteFile(filepath.Join(dir, "a.log"), []byte(serverLog), 0o600))
	var out strings.Builder
	r := &run{ci: ci, out: &out, text: map[string]*strings.Builder{}, broken: map[string]bool{}}
	r.read(strings.NewReader(lines))
	r.secrets(dir)
	ok := r.close()
	return out.String(), ok
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name, lines, secrets, serverLog string
		ci, ok                          bool
		want                            string
	}{
		{"passes", log, "correct-horse\n", "quiet", false, true, "2 passed, 0 failed"},
		{"a skip is named", log, "correct-horse\n", "", false, true, "left out: p TestB: 3: needs baresip"},
		{"a skip fails in CI", log, "correct-horse\n", "", true, false, "2 passed, 1 failed"},
		{"a secret in the output", log, "hello1\nhello\n", "", false, false, "too short"},
		{"a secret in a server's log", log, "correct-horse\n", "x\ngot correct-horse\n", false, false, "stands in a.log, line 2"},
		{"a failed test", `{"Action":"fail","Package":"p","Test":"TestC"}`, "correct-horse\n", "", false, false, "1 passed, 1 failed"},
		{"a package with a failed test counts once", `{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p"}`, "correct-horse\n", "", false, false, "1 passed, 1 failed"},
		{"a package that does not build", `{"Action":"fail","Package":"p"}`, "", "", false, false, "1 passed, 1 failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, ok := judge(t, c.ci, c.lines, c.secrets, c.serverLog)
			is.Equal(t, ok, c.ok, out)
			is.True(t, strings.Contains(out, c.want), out)
		})
	}
}

func TestNoTestRan(t *testing.T) {
	r := &run{out: &strings.Builder{}}
	is.Equal(t, r.close(), false)
}
