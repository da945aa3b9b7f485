package test

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// badReferences: spellings of a specification that `make gen` would not find.
func badReferences() map[string]*regexp.Regexp {
	return map[string]*regexp.Regexp{
		"RFC and number stand apart, in capitals":        regexp.MustCompile(`(^|[^/\w."-])(rfc ?\d{3,4}|Rfc ?\d{3,4}|RFC\d{3,4}|RFC-\d{3,4})\b`),
		"a section is §, after the number and a space":   regexp.MustCompile(`(?i)RFC \d{3,4},? ?(section|sect\.|sec\.|chapter|clause)`),
		"the number comes first, then the section":       regexp.MustCompile(`(?i)section \d[\d.]* of RFC`),
		"a space stands before § and none behind":        regexp.MustCompile(`RFC \d{3,4}(,? ?§ |§|,\s*§)`),
		"one § per reference":                            regexp.MustCompile(`§§`),
		"[MS-…] and its section are parted by one §":     regexp.MustCompile(`(?i)\[MS-[A-Z0-9]+\](,| section| sec\.|§|-)`),
		"[MS-…] stands in brackets":                      regexp.MustCompile(`(^|[^\[\w-])MS-(SIPAE|CONFBAS|SIPREGE|TURN|ICE|SIP|OCER|PRES|CONFIM|CONFAV|XCCOSIP|PSOM)\b`),
		"a section number has no word before its digits": regexp.MustCompile(`RFC \d{3,4} §[^\dA-Z]`),
	}
}

func (s *source) comments(each func(f *file, c *ast.Comment)) {
	for _, f := range s.files {
		for _, g := range f.ast.Comments {
			for _, c := range g.List {
				each(f, c)
			}
		}
	}
}

// specReferences: one spelling, // RFC 3261 §17.2.1 or // [MS-CONFBAS] §3.2.4.
func specReferences(s *source) (bad []string) {
	s.comments(func(f *file, c *ast.Comment) {
		if f.layer == "test" {
			return // the rules quote what they forbid
		}
		for why, re := range badReferences() {
			if m := re.FindString(c.Text); m != "" {
				bad = append(bad, fmt.Sprintf("%s: %q: %s", s.at(c), strings.TrimSpace(m), why))
			}
		}
	})
	slices.Sort(bad)
	return bad
}

// seedReferences: // Seed: R49 Edge 5062, and the row exists.
func seedReferences(s *source) (bad []string) {
	mention := regexp.MustCompile(`(?i)^//\s*seed: ?(.*)`)
	good := regexp.MustCompile(`^R(\d\d) \S`)
	s.comments(func(f *file, c *ast.Comment) {
		m := mention.FindStringSubmatch(c.Text)
		if m == nil || f.layer == "test" {
			return
		}
		row := good.FindStringSubmatch(m[1])
		if row == nil || !strings.Contains(c.Text, "Seed: ") {
			bad = append(bad, fmt.Sprintf("%s: %q: written Seed: R49 Edge 5062", s.at(c), m[0]))
			return
		}
		if n, _ := strconv.Atoi(row[1]); n < 1 || n > 73 {
			bad = append(bad, fmt.Sprintf("%s: the seed has 73 rows, not %s", s.at(c), row[0]))
		}
	})
	return bad
}

// settingDocs: every exported field of a role, and of what the settings file
// fills, says what it is in a doc tag.
func settingDocs(s *source) (bad []string) {
	for _, f := range s.shipped() {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			ts, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			st, ok := ts.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, fd := range st.Fields.List {
				tag := ""
				if fd.Tag != nil {
					tag, _ = strconv.Unquote(fd.Tag.Value)
				}
				isSetting := strings.Contains(tag, `toml:"`) && !strings.Contains(tag, `toml:"-"`) ||
					strings.HasPrefix(f.pkg, "role/") && ts.Name.Name == "role" && slices.ContainsFunc(fd.Names, (*ast.Ident).IsExported)
				if isSetting && !strings.Contains(tag, `doc:"`) {
					bad = append(bad, fmt.Sprintf("%s: a setting of %s without a doc tag", s.at(fd), ts.Name.Name))
				}
			}
			return true
		})
	}
	return bad
}

// commandHelp: every row of the command table that is written out has its help.
func commandHelp(s *source) (bad []string) {
	complain := func(lit *ast.CompositeLit) {
		fields := map[string]ast.Expr{}
		for _, e := range lit.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				if k, ok := kv.Key.(*ast.Ident); ok {
					fields[k.Name] = kv.Value
				}
			}
		}
		if fields["Name"] == nil {
			return // an empty value, not a row
		}
		if h, ok := fields["Help"].(*ast.BasicLit); fields["Help"] == nil || ok && len(h.Value) < 12 {
			bad = append(bad, s.at(lit)+": a command without help")
		}
	}
	for _, f := range s.shipped() {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if f.isCommand(lit.Type) {
				complain(lit)
			}
			if arr, ok := lit.Type.(*ast.ArrayType); ok && f.isCommand(arr.Elt) {
				for _, e := range lit.Elts {
					if row, ok := e.(*ast.CompositeLit); ok && row.Type == nil {
						complain(row)
					}
				}
			}
			return true
		})
	}
	return bad
}

func (f *file) isCommand(t ast.Expr) bool {
	switch t := t.(type) {
	case *ast.SelectorExpr:
		imp, _ := f.from(t)
		return imp == module+"core/admin" && t.Sel.Name == "Command"
	case *ast.Ident:
		return f.pkg == "core/admin" && t.Name == "Command"
	}
	return false
}

// logMessages: constant and lower-case; what differs stands in the attributes.
func logMessages(s *source) (bad []string) {
	for _, f := range s.shipped() {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, sel.Sel.Name) || !isLog(sel.X) {
				return true
			}
			lit, ok := call.Args[0].(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				bad = append(bad, s.at(call)+": a log message that is not constant")
				return true
			}
			text, _ := strconv.Unquote(lit.Value)
			word, _, _ := strings.Cut(text, " ")
			if text == "" || unicode.IsUpper([]rune(text)[0]) && word != strings.ToUpper(word) {
				bad = append(bad, fmt.Sprintf("%s: log message %q starts with a capital", s.at(call), text))
			}
			return true
		})
	}
	return bad
}

func isLog(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "log" || e.Name == "slog" || e.Name == "logger"
	case *ast.SelectorExpr:
		return e.Sel.Name == "log" || e.Sel.Name == "Log" || e.Sel.Name == "logger"
	}
	return false
}

// skips: a test that does not run says why.
func skips(s *source) (bad []string) {
	for _, f := range s.files {
		if !f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if ok && (sel.Sel.Name == "SkipNow" || sel.Sel.Name == "Skip" && len(call.Args) == 0) {
				if x, isIdent := sel.X.(*ast.Ident); isIdent && (x.Name == "t" || x.Name == "b" || x.Name == "f" || x.Name == "tb") {
					bad = append(bad, s.at(call)+": a skip without its reason")
				}
			}
			return true
		})
	}
	return bad
}

// selfContained: nothing that ships points outside the repository.
func selfContained(s *source) (bad []string) {
	outside := regexp.MustCompile(`\.\./sha` + `red|/wo` + `rk/|/tmp/pl` + `an`)
	look := func(p, text string) {
		if m := outside.FindString(text); m != "" {
			bad = append(bad, fmt.Sprintf("%s: refers to %s, which does not ship", p, m))
		}
	}
	for p, text := range s.texts {
		look(p, text)
	}
	for _, f := range s.files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				look(s.at(lit), lit.Value)
			}
			return true
		})
	}
	s.comments(func(f *file, c *ast.Comment) { look(s.at(c), c.Text) })
	slices.Sort(bad)
	return bad
}
