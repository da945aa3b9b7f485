package admin

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"fernamt/core/config"
)

// usage is what a command takes, as its Args line says:
//
//	ADDRESS            a word
//	[ADDRESS]          perhaps a word
//	ADDRESS...         one word or more
//	FILE, FILE.csv     a file that the caller reads and the command gets as input; - is standard input
//	PATH               a file name, made absolute where the command is given
//	a|b|c              one of these words
//	[--live]           a flag
//	[--name NAME]      a flag with a value
//	[--format a|b]     a flag with one of these values
//
// --data DIR and --config FILE belong to every command and do not stand there.
type usage struct {
	words []word
	flags []flag
}

type word struct {
	name     string
	optional bool
	many     bool
	choices  []string
}

type flag struct {
	name    string
	value   string // "" when it takes none
	choices []string
}

func parseUsage(args string) (usage, error) {
	var u usage
	for args = strings.TrimSpace(args); args != ""; args = strings.TrimSpace(args) {
		var token string
		if args[0] == '[' {
			i := strings.IndexByte(args, ']')
			if i < 0 {
				return u, fmt.Errorf("arguments %q: a bracket stays open", args)
			}
			token, args = args[1:i], args[i+1:]
			if name, ok := strings.CutPrefix(token, "--"); ok {
				name, value, _ := strings.Cut(name, " ")
				f := flag{name: name, value: value}
				if strings.Contains(value, "|") {
					f.choices = strings.Split(value, "|")
				}
				u.flags = append(u.flags, f)
				continue
			}
			w := newWord(token)
			w.optional = true
			u.words = append(u.words, w)
			continue
		}
		token, args, _ = strings.Cut(args, " ")
		if strings.HasPrefix(token, "-") {
			return u, fmt.Errorf("arguments: flag %s must stand in brackets", token)
		}
		u.words = append(u.words, newWord(token))
	}
	for i, w := range u.words {
		if i+1 < len(u.words) && (w.many || w.optional && !u.words[i+1].optional) {
			return u, errors.New("arguments: after a word that may be absent or repeated none may follow that must be there")
		}
	}
	return u, nil
}

func newWord(token string) word {
	w := word{name: token}
	w.name, w.many = strings.CutSuffix(token, "...")
	if strings.Contains(w.name, "|") {
		w.choices = strings.Split(w.name, "|")
	}
	return w
}

// parse sorts words and flags; flags may stand anywhere, and what follows -- is words.
func (u usage) parse(argv []string) (args []string, flags map[string]string, err error) {
	flags = map[string]string{}
	for i := 0; i < len(argv); i++ {
		a := argv[i]
		if a == "--" {
			args = append(args, argv[i+1:]...)
			break
		}
		if !strings.HasPrefix(a, "-") || a == "-" {
			args = append(args, a)
			continue
		}
		name, value, has := strings.Cut(strings.TrimLeft(a, "-"), "=")
		f, err := u.flag(name)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case f.value == "" && has:
			return nil, nil, fmt.Errorf("--%s takes no value", name)
		case f.value != "" && !has:
			if i++; i >= len(argv) {
				return nil, nil, fmt.Errorf("--%s needs a value: %s", name, f.value)
			}
			value = argv[i]
		}
		if f.choices != nil && !slices.Contains(f.choices, value) {
			return nil, nil, fmt.Errorf("--%s %s: allowed are %s", name, value, strings.Join(f.choices, ", "))
		}
		flags[name] = value
	}
	return args, flags, u.count(args)
}

func (u usage) flag(name string) (flag, error) {
	var names []string
	for _, f := range u.flags {
		if f.name == name {
			return f, nil
		}
		names = append(names, f.name)
	}
	if n := config.Nearest(name, names); n != "" {
		return flag{}, fmt.Errorf("there is no flag --%s; did you mean --%s?", name, n)
	}
	return flag{}, fmt.Errorf("there is no flag --%s", name)
}

func (u usage) count(args []string) error {
	for i, w := range u.words {
		if i >= len(args) {
			if !w.optional {
				return fmt.Errorf("%s is missing", w.name)
			}
			return nil
		}
		if w.choices != nil && !slices.Contains(w.choices, args[i]) {
			p := ""
			if n := config.Nearest(args[i], w.choices); n != "" {
				p = "; did you mean " + n + "?"
			}
			return fmt.Errorf("%s is none of %s%s", args[i], strings.Join(w.choices, ", "), p)
		}
		if w.many {
			return nil
		}
	}
	if len(args) > len(u.words) {
		return fmt.Errorf("%q is one word too many", args[len(u.words)])
	}
	return nil
}

// Local prepares argv for a server that has another working folder: PATH words become
// absolute, and file is the FILE word, which the caller is to read; "" if there is none.
func (t *Table) Local(argv []string) (out []string, file string, err error) {
	c, rest, err := t.Find(argv)
	if err != nil {
		return nil, "", err
	}
	u := t.usages[c.Name]
	args, flags, err := u.parse(rest)
	if err != nil {
		return nil, "", Usagef("%w\nusage: fernamt %s", err, strings.TrimSpace(c.Name+" "+c.Args))
	}
	for i, w := range u.words {
		if i >= len(args) {
			break
		}
		switch {
		case w.name == "PATH":
			if args[i], err = filepath.Abs(args[i]); err != nil {
				return nil, "", err
			}
		case w.name == "FILE" || strings.HasPrefix(w.name, "FILE."):
			file = args[i]
		}
	}
	out = strings.Fields(c.Name)
	for _, f := range u.flags {
		v, ok := flags[f.name]
		switch {
		case ok && f.value != "":
			out = append(out, "--"+f.name+"="+v)
		case ok:
			out = append(out, "--"+f.name)
		}
	}
	if len(args) > 0 {
		out = append(append(out, "--"), args...)
	}
	return out, file, nil
}
