package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// labWith starts a lab of its own with changed settings.
func labWith(t testing.TB, edit func(toml string) string, args ...string) *lab {
	t.Helper()
	dir := t.TempDir()
	writeSettings(t, dir, edit)
	return startLab(t, dir, args...)
}

// writeSettings puts the lab's settings, changed, into a fresh folder. It has the
// server log all that it ever logs, since the log is searched for secrets.
func writeSettings(t testing.TB, dir string, edit func(toml string) string) {
	t.Helper()
	toml := setting(t, edit(labSettings(t)), "log", "level", `"debug"`)
	if err := os.WriteFile(filepath.Join(dir, "fernamt.toml"), []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
}

// labSettings takes the settings that a fresh lab writes.
func labSettings(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	startLab(t, dir).stop()
	b, err := os.ReadFile(filepath.Join(dir, "fernamt.toml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// setting changes one key of one table, or adds it there; table "" is the top.
func setting(t testing.TB, toml, table, key, value string) string {
	t.Helper()
	var out []string
	here, done := table == "", false
	for line := range strings.SplitSeq(toml, "\n") {
		name, _, isKey := strings.Cut(line, "=")
		if strings.HasPrefix(line, "[") {
			if here && !done {
				out, done = append(out, key+" = "+value), true
			}
			here = strings.Trim(line, "[] ") == table && !strings.HasPrefix(line, "[[")
		}
		if here && !done && isKey && strings.Trim(name, "# ") == key {
			line, done = key+" = "+value, true
		}
		out = append(out, line)
	}
	switch {
	case done:
	case here:
		out = append(out, key+" = "+value)
	default:
		out = append(out, "["+table+"]", key+" = "+value)
	}
	return strings.Join(out, "\n")
}

func TestSetting(t *testing.T) {
	const toml = "domains = []\n# a = 1\n[log]\nlevel = \"info\"\n[[host]]\nname = \"x\""
	for _, c := range []struct{ table, key, want string }{
		{"", "domains", "domains = 9\n# a = 1\n[log]\nlevel = \"info\"\n[[host]]\nname = \"x\""},
		{"", "a", "domains = []\na = 9\n[log]\nlevel = \"info\"\n[[host]]\nname = \"x\""},
		{"log", "level", "domains = []\n# a = 1\n[log]\nlevel = 9\n[[host]]\nname = \"x\""},
		{"log", "new", "domains = []\n# a = 1\n[log]\nlevel = \"info\"\nnew = 9\n[[host]]\nname = \"x\""},
		{"dns", "servers", toml + "\n[dns]\nservers = 9"},
	} {
		if got := setting(t, toml, c.table, c.key, "9"); got != c.want {
			t.Errorf("%s.%s:\n%s", c.table, c.key, got)
		}
	}
}
