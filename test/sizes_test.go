package test

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"sort"
	"strings"
)

const (
	maxFile      = 800
	maxFunction  = 100
	maxMedian    = 15 // the median stays under it
	maxPackage   = 3000
	maxRole      = 2000
	maxMain      = 150 // main.go, which only starts things
	maxParams    = 5
	maxInterface = 4
)

func fileSize(s *source) (bad []string) {
	for _, f := range s.files {
		most := maxFile
		if f.path == "main.go" {
			most = maxMain
		}
		if f.lines > most {
			bad = append(bad, fmt.Sprintf("%s: %d lines, at most %d", f.path, f.lines, most))
		}
	}
	return bad
}

func (s *source) lines(n ast.Node) int {
	return s.fset.Position(n.End()).Line - s.fset.Position(n.Pos()).Line + 1
}

func functionSize(s *source) (bad []string) {
	for _, f := range s.files {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && s.lines(fn) > maxFunction {
				bad = append(bad, fmt.Sprintf("%s: %s has %d lines, at most %d", s.at(fn), fn.Name.Name, s.lines(fn), maxFunction))
			}
		}
	}
	return bad
}

func (s *source) functionLines() (all []int) {
	for _, f := range s.shipped() {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				all = append(all, s.lines(fn))
			}
		}
	}
	return all
}

func median(n []int) int {
	if len(n) == 0 {
		return 0
	}
	n = slices.Clone(n)
	sort.Ints(n)
	return n[len(n)/2]
}

func functionMedian(s *source) []string {
	if m := median(s.functionLines()); m >= maxMedian {
		return []string{fmt.Sprintf("the median function has %d lines, under %d is asked", m, maxMedian)}
	}
	return nil
}

func packageSize(s *source) (bad []string) {
	total := map[string]int{}
	for _, f := range s.shipped() {
		total[f.pkg] += f.lines
	}
	for p, n := range total {
		most := maxPackage
		if strings.HasPrefix(p, "role/") {
			most = maxRole
		}
		if n > most {
			bad = append(bad, fmt.Sprintf("%s: %d lines without tests, at most %d", p, n, most))
		}
	}
	sort.Strings(bad)
	return bad
}

func paramCount(t *ast.FuncType) (n int) {
	for _, f := range t.Params.List {
		n += max(1, len(f.Names))
	}
	return n
}

func parameters(s *source) (bad []string) {
	for _, f := range s.files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if t, ok := n.(*ast.FuncType); ok && paramCount(t) > maxParams {
				bad = append(bad, fmt.Sprintf("%s: %d parameters, at most %d: beyond, a struct", s.at(t), paramCount(t), maxParams))
			}
			return true
		})
	}
	return bad
}

func interfaces(s *source) (bad []string) {
	for _, f := range s.shipped() {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			it, ok := n.(*ast.InterfaceType)
			if !ok {
				return true
			}
			methods := 0
			for _, m := range it.Methods.List {
				if _, ok := m.Type.(*ast.FuncType); ok {
					methods += len(m.Names)
				}
			}
			if methods > maxInterface {
				bad = append(bad, fmt.Sprintf("%s: an interface of %d methods, at most %d", s.at(it), methods, maxInterface))
			}
			return true
		})
	}
	return bad
}

func packageComment(s *source) (bad []string) {
	has := map[string]bool{}
	for _, f := range s.files {
		pkg := f.pkg
		if has[pkg] {
			continue
		}
		has[pkg] = f.ast.Doc != nil && (f.pkg == "." || f.ast.Name.Name == "main" ||
			strings.HasPrefix(f.ast.Doc.Text(), "Package "+path.Base(f.pkg)))
	}
	for p, ok := range has {
		if !ok {
			bad = append(bad, p+": no package comment (what it is, which doors, which specs, which goroutines, which lock guards what)")
		}
	}
	sort.Strings(bad)
	return bad
}

// docComments: what a package exports says what it is.
func docComments(s *source) (bad []string) {
	complain := func(n ast.Node, name string) {
		bad = append(bad, fmt.Sprintf("%s: exported %s has no comment", s.at(n), name))
	}
	for _, f := range s.shipped() {
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && d.Doc == nil && !wellKnown(d) {
					complain(d, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, sp := range d.Specs {
					if ts, ok := sp.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil && ts.Comment == nil {
						complain(ts, ts.Name.Name)
					}
				}
			}
		}
	}
	return bad
}

// wellKnown: methods whose meaning the standard library has fixed.
func wellKnown(d *ast.FuncDecl) bool {
	const known = " String Error Unwrap Is Read Write Close Addr LocalAddr RemoteAddr SetDeadline SetReadDeadline " +
		"SetWriteDeadline ReadFrom WriteTo Accept Network Enabled Handle WithAttrs WithGroup Len Less Swap " +
		"ServeHTTP MarshalText UnmarshalText MarshalJSON UnmarshalJSON Scan Value "
	return d.Recv != nil && strings.Contains(known, " "+d.Name.Name+" ")
}
