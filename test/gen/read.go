package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// goFiles parses every Go file of the project, tests too.
func goFiles(root string) (*token.FileSet, map[string]*ast.File, error) {
	fset, files := token.NewFileSet(), map[string]*ast.File{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "web", "testdata", "node_modules"}, d.Name()):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(p, ".go"):
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		files[filepath.ToSlash(p)] = f
		return err
	})
	return fset, files, err
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// events lists the facts: the structs of every events.go that have a Kind.
func events(root string) ([]byte, error) {
	_, files, err := goFiles(root)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(madeBy + "# Events\n\nFacts in the past tense. Each is written to the log in a transaction, with the change that it tells of\nwhere there is one, and read from there by position.\n")
	for _, p := range sortedKeys(files) {
		if filepath.Base(p) != "events.go" {
			continue
		}
		structs, kinds := declared(files[p])
		for _, kind := range sortedKeys(kinds) {
			if t := structs[kinds[kind]]; t != nil {
				fmt.Fprintf(&b, "\n## %s\n\n%s\n", kind, t.doc)
				writeFields(&b, t.node, structs)
			}
		}
	}
	return b.Bytes(), nil
}

type structType struct {
	doc  string
	node *ast.StructType
}

// declared gives a file's structs by name, and by its kind the name of each that has
// a method Kind which returns a text.
func declared(f *ast.File) (structs map[string]*structType, kinds map[string]string) {
	structs, kinds = map[string]*structType{}, map[string]string{}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.GenDecl:
			for _, sp := range d.Specs {
				ts, ok := sp.(*ast.TypeSpec)
				if !ok {
					continue
				}
				if st, ok := ts.Type.(*ast.StructType); ok {
					doc := ts.Doc
					if doc == nil {
						doc = d.Doc
					}
					structs[ts.Name.Name] = &structType{doc.Text(), st}
				}
			}
		case *ast.FuncDecl:
			if receiver, text := kindOf(d); text != "" {
				kinds[text] = receiver
			}
		}
	}
	return structs, kinds
}

// kindOf reads func (Added) Kind() string { return "user.Added" }.
func kindOf(d *ast.FuncDecl) (receiver, text string) {
	if d.Name.Name != "Kind" || d.Recv == nil || d.Body == nil || len(d.Body.List) != 1 {
		return "", ""
	}
	r, ok := d.Body.List[0].(*ast.ReturnStmt)
	if !ok || len(r.Results) != 1 {
		return "", ""
	}
	lit, ok := r.Results[0].(*ast.BasicLit)
	if !ok {
		return "", ""
	}
	text, _ = strconv.Unquote(lit.Value)
	return typeText(d.Recv.List[0].Type), text
}

func writeFields(b *bytes.Buffer, st *ast.StructType, structs map[string]*structType) {
	rows := fieldRows(st, structs)
	if len(rows) > 0 {
		b.WriteString("| field | type | |\n|---|---|---|\n" + strings.Join(rows, ""))
	}
}

// fieldRows has a row for each field, under the name that it has in the log; an
// embedded struct's fields stand in its place.
func fieldRows(st *ast.StructType, structs map[string]*structType) (rows []string) {
	for _, f := range st.Fields.List {
		if len(f.Names) == 0 && structs[typeText(f.Type)] != nil {
			rows = append(rows, fieldRows(structs[typeText(f.Type)].node, structs)...)
			continue
		}
		about := f.Comment.Text()
		if f.Doc != nil {
			about = f.Doc.Text()
		}
		for _, n := range f.Names {
			name := n.Name
			if f.Tag != nil {
				tag, _ := strconv.Unquote(f.Tag.Value)
				if inLog, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ","); inLog != "" {
					name = inLog
				}
			}
			rows = append(rows, fmt.Sprintf("| %s | %s | %s |\n", name, typeText(f.Type), strings.ReplaceAll(strings.TrimSpace(about), "\n", " ")))
		}
	}
	return rows
}

func typeText(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return typeText(e.X) + "." + e.Sel.Name
	case *ast.ArrayType:
		return "list of " + typeText(e.Elt)
	case *ast.StarExpr:
		return typeText(e.X) + ", may be absent"
	case *ast.MapType:
		return "map of " + typeText(e.Key) + " to " + typeText(e.Value)
	}
	return "value"
}

// reference finds "RFC 3261 §17.2.1" and "[MS-SIPAE] §3.1" with or without the
// section; more sections may follow after commas.
func reference() *regexp.Regexp {
	return regexp.MustCompile(`(RFC \d{3,5}|\[MS-[A-Z0-9]+\])(?: (§[0-9A-Z][0-9A-Za-z.-]*(?:(?:, | and )§[0-9A-Z][0-9A-Za-z.-]*)*))?`)
}

// specs collects which document's section is answered where.
func specs(root string) ([]byte, error) {
	fset, files, err := goFiles(root)
	if err != nil {
		return nil, err
	}
	places := map[string]map[string]map[string]bool{} // document → section → files
	var todo []string
	unfinished := regexp.MustCompile(`TODO ((?:RFC \d+|\[MS-[A-Z0-9]+\]).*)`)
	for _, p := range sortedKeys(files) {
		if strings.HasPrefix(p, "test/") {
			continue
		}
		for _, g := range files[p].Comments {
			for _, c := range g.List {
				collect(places, p, c.Text)
				if m := unfinished.FindStringSubmatch(c.Text); m != nil {
					todo = append(todo, fmt.Sprintf("- %s (%s)", m[1], fset.Position(c.Pos()).Filename))
				}
			}
		}
	}
	return writeSpecs(filepath.Join(root, "doc", "specs.tsv"), places, todo)
}

func collect(places map[string]map[string]map[string]bool, p, text string) {
	for _, m := range reference().FindAllStringSubmatch(text, -1) {
		if places[m[1]] == nil {
			places[m[1]] = map[string]map[string]bool{}
		}
		for s := range strings.SplitSeq(strings.ReplaceAll(m[2], " and ", ", "), ", ") {
			s = strings.TrimRight(s, ".-")
			if places[m[1]][s] == nil {
				places[m[1]][s] = map[string]bool{}
			}
			places[m[1]][s][p] = true
		}
	}
}

// writeSpecs joins the places with doc/specs.tsv: document, status word, title.
func writeSpecs(table string, places map[string]map[string]map[string]bool, todo []string) ([]byte, error) {
	text, err := os.ReadFile(table)
	if err != nil {
		return nil, err
	}
	titles := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(strings.TrimSpace(line), "\t"); len(f) == 3 {
			titles[f[0]] = f[1:]
		}
	}
	var b bytes.Buffer
	b.WriteString(madeBy + "# Specifications\n\nWhat is done (yes, partly, planned, no), and where each section is answered. The status words stand in\n`specs.tsv`; the places are collected from the comments.\n\n| document | done | |\n|---|---|---|\n")
	docs := sortedKeys(titles)
	sort.SliceStable(docs, func(i, j int) bool { return number(docs[i]) < number(docs[j]) })
	for _, d := range docs {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", d, titles[d][0], titles[d][1])
	}
	for _, d := range sortedKeys(places) {
		if titles[d] == nil {
			return nil, fmt.Errorf("%s is referred to in %s and has no line in doc/specs.tsv", d, sortedKeys(anyOf(places[d]))[0])
		}
	}
	for _, d := range docs {
		if places[d] != nil {
			writePlaces(&b, d, titles[d][1], places[d])
		}
	}
	if len(todo) > 0 {
		fmt.Fprintf(&b, "\n## Unfinished\n\n%s\n", strings.Join(todo, "\n"))
	}
	return b.Bytes(), nil
}

func anyOf(m map[string]map[string]bool) map[string]bool {
	for _, v := range m {
		return v
	}
	return nil
}

func writePlaces(b *bytes.Buffer, doc, title string, sections map[string]map[string]bool) {
	fmt.Fprintf(b, "\n## %s %s\n\n", doc, title)
	keys := sortedKeys(sections)
	sort.SliceStable(keys, func(i, j int) bool { return lessSection(keys[i], keys[j]) })
	for _, s := range keys {
		name := s
		if s == "" {
			name = "in general"
		}
		fmt.Fprintf(b, "- %s: %s\n", name, strings.Join(sortedKeys(sections[s]), ", "))
	}
}

func number(doc string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(doc, "RFC "))
	if err != nil {
		return 1 << 30 // after the numbered ones
	}
	return n
}

func lessSection(a, b string) bool {
	as, bs := strings.Split(strings.TrimPrefix(a, "§"), "."), strings.Split(strings.TrimPrefix(b, "§"), ".")
	for i := range min(len(as), len(bs)) {
		x, errX := strconv.Atoi(as[i])
		y, errY := strconv.Atoi(bs[i])
		switch {
		case errX == nil && errY == nil && x != y:
			return x < y
		case as[i] != bs[i] && (errX != nil || errY != nil):
			return as[i] < bs[i]
		}
	}
	return len(as) < len(bs)
}
