// Package test watches over the whole project. Its house test reads every Go
// file with go/parser and keeps the rules that the compiler does not know:
// layers, sizes, who may open a socket, which words may be used. Each rule is a
// function from a source tree to complaints, so that a small made-up tree can
// show that the rule is able to fail.
package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// A rule returns one complaint per break, each with its place.
type rule struct {
	name  string
	check func(*source) []string
}

// rules is the law of the house, in the order in which it is read.
func rules() []rule {
	return []rule{
		{"parses", parses},
		{"layers", layers},
		{"order of core", orderOfCore},
		{"known packages", knownPackages},
		{"depth", depth},
		{"package names", packageNames},
		{"one package per library", onePackagePerLibrary},
		{"no foreign types", noForeignTypes},
		{"sockets", sockets},
		{"file size", fileSize},
		{"function size", functionSize},
		{"function median", functionMedian},
		{"package size", packageSize},
		{"parameters", parameters},
		{"interfaces", interfaces},
		{"package variables", packageVariables},
		{"package comment", packageComment},
		{"doc comments", docComments},
		{"spec references", specReferences},
		{"seed references", seedReferences},
		{"setting docs", settingDocs},
		{"command help", commandHelp},
		{"log messages", logMessages},
		{"skips", skips},
		{"self-contained", selfContained},
	}
}

// source is a tree of files, read and parsed.
type source struct {
	fset    *token.FileSet
	files   []*file           // Go files, by path
	texts   map[string]string // every other text file
	modules []string          // what go.mod requires
	broken  []string          // files that do not parse
}

// file is one Go file of ours.
type file struct {
	path    string // "wire/sip/parse.go"
	pkg     string // "wire/sip"; "." is main
	layer   string // wire, core, role, client, test or main
	test    bool   // a _test.go file, or anything under test/
	lines   int
	ast     *ast.File
	imports map[string]string // local name → import path
}

func newSource(files map[string]string) *source {
	s := &source{fset: token.NewFileSet(), texts: map[string]string{}}
	paths := make([]string, 0, len(files))
	for p := range files {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	for _, p := range paths {
		if !strings.HasSuffix(p, ".go") {
			s.texts[p] = files[p]
			continue
		}
		s.add(p, files[p])
	}
	for line := range strings.Lines(files["go.mod"]) {
		f := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(f) >= 2 && strings.HasPrefix(f[1], "v") && strings.Contains(f[0], ".") {
			s.modules = append(s.modules, f[0])
		}
	}
	return s
}

func (s *source) add(p, text string) {
	tree, err := parser.ParseFile(s.fset, p, text, parser.ParseComments)
	if err != nil {
		s.broken = append(s.broken, fmt.Sprintf("%s: %v", p, err))
		return
	}
	f := &file{
		path: p, pkg: path.Dir(p), layer: layerOf(p), ast: tree,
		lines: strings.Count(text, "\n"), imports: map[string]string{},
	}
	f.test = strings.HasSuffix(p, "_test.go") || f.layer == "test"
	for _, i := range tree.Imports {
		full, _ := strconv.Unquote(i.Path.Value)
		name := importName(full)
		if i.Name != nil {
			name = i.Name.Name
		}
		f.imports[name] = full
	}
	s.files = append(s.files, f)
}

// importName guesses the name that an import path goes by: the last part that
// is not a major version.
func importName(full string) string {
	base := path.Base(full)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(full))
	}
	return strings.TrimPrefix(base, "go-")
}

func layerOf(p string) string {
	first, _, deep := strings.Cut(p, "/")
	if !deep {
		return "main"
	}
	return first
}

func (s *source) at(n ast.Node) string {
	p := s.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// shipped gives the Go files that end up in the binary.
func (s *source) shipped() []*file {
	var out []*file
	for _, f := range s.files {
		if !f.test {
			out = append(out, f)
		}
	}
	return out
}

// readTree reads the project's own files: everything but what git would not
// carry and the web client, which has checks of its own.
func readTree(t *testing.T, root string) *source {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		rel = filepath.ToSlash(rel)
		switch {
		case d.IsDir() && (rel == ".git" || rel == "bin" || rel == "web" || d.Name() == "node_modules" ||
			d.Name() == "testdata" || strings.HasPrefix(d.Name(), "data-lab")):
			return filepath.SkipDir
		case d.IsDir() || !d.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(p)
		if os.IsNotExist(err) { // an editor's file that has just gone
			return nil
		}
		files[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return newSource(files)
}

func TestHouse(t *testing.T) {
	s := readTree(t, "..")
	if len(s.files) < 3 || len(s.modules) < 3 {
		t.Fatalf("read %d files and %d modules: not the project", len(s.files), len(s.modules))
	}
	for _, r := range rules() {
		t.Run(strings.ReplaceAll(r.name, " ", "_"), func(t *testing.T) {
			for _, c := range r.check(s) {
				t.Error(c)
			}
		})
	}
	t.Logf("%d Go files, %d lines; function median %d lines", len(s.files), s.lineCount(), median(s.functionLines()))
}

func (s *source) lineCount() int {
	n := 0
	for _, f := range s.files {
		n += f.lines
	}
	return n
}

func parses(s *source) []string { return s.broken }
