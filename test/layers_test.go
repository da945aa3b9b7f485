package test

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
)

const module = "fernamt/"

// mayImport: who may import whom.
func mayImport(from, to string) bool {
	allowed := map[string][]string{
		"wire":   {"wire"},
		"core":   {"wire", "core"},
		"role":   {"wire", "core"},
		"client": {"wire"},
		"main":   {"wire", "core", "role", "client", "web"},
		"test":   {"wire", "core", "role", "client", "test", "web"},
	}
	return slices.Contains(allowed[from], to)
}

// packagesOf lists the packages of a layer. Core stands in its order: left may
// not import right. A new package gets its entry here and a line in
// doc/ARCHITECTURE.md.
func packagesOf(layer string) []string {
	all := map[string]string{
		"wire": "clock ports sip transport transaction proxy locate dialog sdp turn rtp codec simple oc frame psom gss ldap hep",
		"core": "trace config store event ident listen location route presence media conf room simpleface ocface admin host",
		"role": "frontend director focus imconf avconf phoneconf shareconf webconf attendant announce hunt outside " +
			"mediation edge groupchat archive monitor webaccess webparts proxy balance manage",
		"test": "is interop play plays gen verdict bench postgres",
	}
	return strings.Fields(all[layer])
}

func layers(s *source) (bad []string) {
	for _, f := range s.files {
		for _, i := range f.ast.Imports {
			to, ours := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), module)
			if !ours {
				continue
			}
			toLayer, _, _ := strings.Cut(to, "/")
			switch {
			case toLayer == "test":
				if !f.test && f.layer != "main" {
					bad = append(bad, fmt.Sprintf("%s: shipped code imports %s", s.at(i), to))
				}
			case f.layer == "role" && toLayer == "role":
				if f.pkg != to { // its own external test
					bad = append(bad, fmt.Sprintf("%s: a role imports the role %s", s.at(i), to))
				}
			case !mayImport(f.layer, toLayer) && !testUsesClient(f, toLayer) && f.pkg != to:
				bad = append(bad, fmt.Sprintf("%s: %s may not import %s", s.at(i), f.layer, to))
			}
		}
	}
	return bad
}

// testUsesClient: a server's test beside the role drives it with our own client.
func testUsesClient(f *file, to string) bool {
	return f.test && to == "client" && (f.layer == "role" || f.layer == "core")
}

func orderOfCore(s *source) (bad []string) {
	order := packagesOf("core")
	for _, f := range s.files {
		from, ok := strings.CutPrefix(f.pkg, "core/")
		if !ok {
			continue
		}
		for _, i := range f.ast.Imports {
			to, ok := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), module+"core/")
			if ok && to != from && slices.Index(order, to) > slices.Index(order, from) {
				bad = append(bad, fmt.Sprintf("%s: core/%s stands left of core/%s and may not import it", s.at(i), from, to))
			}
		}
	}
	return bad
}

func knownPackages(s *source) (bad []string) {
	seen := map[string]bool{}
	for _, f := range s.files {
		layer, name, deep := strings.Cut(f.pkg, "/")
		if !deep || seen[f.pkg] || strings.Contains(name, "/") {
			continue
		}
		seen[f.pkg] = true
		if !slices.Contains(packagesOf(layer), name) {
			bad = append(bad, fmt.Sprintf("%s: package %s is not in the tree of the house", f.path, f.pkg))
		}
	}
	return bad
}

// depth: always layer/package/file.
func depth(s *source) (bad []string) {
	for _, f := range s.files {
		parts := strings.Split(f.path, "/")
		want := map[string][]int{"main": {1}, "client": {2}, "test": {2, 3}, "web": {2}}[f.layer]
		if want == nil {
			want = []int{3}
		}
		if !slices.Contains(want, len(parts)) || !slices.Contains([]string{"main", "wire", "core", "role", "client", "test", "web"}, f.layer) {
			bad = append(bad, f.path+": does not stand at layer/package/file")
		}
	}
	return bad
}

func packageNames(s *source) (bad []string) {
	const never = " util utils common manager handler handlers service services impl types helper helpers base misc lib internal pkg shared core "
	for _, f := range s.files {
		name := f.ast.Name.Name
		if strings.Contains(never, " "+name+" ") || strings.ContainsAny(name, "_") && !strings.HasSuffix(name, "_test") {
			bad = append(bad, fmt.Sprintf("%s: package %s: one short noun, the thing, not the pattern", f.path, name))
		}
		if want := path.Base(f.pkg); f.pkg != "." && name != "main" && strings.TrimSuffix(name, "_test") != want {
			bad = append(bad, fmt.Sprintf("%s: package %s in folder %s", f.path, name, f.pkg))
		}
	}
	return bad
}

// library gives the required module that an import path belongs to, or "".
// golang.org/x is written by the people of the standard library and counts as
// part of it.
func (s *source) library(imp string) string {
	best := ""
	for _, m := range s.modules {
		if (imp == m || strings.HasPrefix(imp, m+"/")) && len(m) > len(best) {
			best = m
		}
	}
	if first, _, _ := strings.Cut(imp, "/"); best == "" && strings.Contains(first, ".") {
		best = imp // not even required
	}
	if strings.HasPrefix(best, "golang.org/x/") {
		return ""
	}
	return best
}

// onePackagePerLibrary: a library lives in one package of ours. Tests may use it
// as the peer of what they test.
func onePackagePerLibrary(s *source) (bad []string) {
	home := map[string]string{}
	for _, f := range s.shipped() {
		for _, i := range f.ast.Imports {
			lib := s.library(strings.Trim(i.Path.Value, `"`))
			if lib == "" {
				continue
			}
			if h, ok := home[lib]; ok && h != f.pkg {
				bad = append(bad, fmt.Sprintf("%s: %s lives in %s", s.at(i), lib, h))
			} else {
				home[lib] = f.pkg
			}
		}
	}
	return bad
}

// noForeignTypes: no library's type crosses an exported API of ours.
func noForeignTypes(s *source) (bad []string) {
	for _, f := range s.shipped() {
		foreign := map[string]bool{}
		for name, full := range f.imports {
			foreign[name] = s.library(full) != ""
		}
		for _, n := range exportedSurface(f.ast) {
			ast.Inspect(n, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && x.Obj == nil && foreign[x.Name] {
					bad = append(bad, fmt.Sprintf("%s: foreign type %s.%s in an exported API", s.at(sel), x.Name, sel.Sel.Name))
				}
				return true
			})
		}
	}
	return bad
}

// exportedSurface gives the types that a package's users see: signatures,
// exported fields, exported variables' types.
func exportedSurface(f *ast.File) (out []ast.Node) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && exportedReceiver(d) {
				out = append(out, d.Type)
			}
		case *ast.GenDecl:
			for _, sp := range d.Specs {
				out = append(out, exportedSpec(sp)...)
			}
		}
	}
	return out
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	name := receiverName(d)
	return name != "" && token.IsExported(name)
}

// receiverName gives the type that a method belongs to.
func receiverName(d *ast.FuncDecl) string {
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

func exportedSpec(sp ast.Spec) (out []ast.Node) {
	switch sp := sp.(type) {
	case *ast.ValueSpec:
		if sp.Type != nil && slices.ContainsFunc(sp.Names, (*ast.Ident).IsExported) {
			out = append(out, sp.Type)
		}
	case *ast.TypeSpec:
		if !sp.Name.IsExported() {
			return nil
		}
		st, ok := sp.Type.(*ast.StructType)
		if !ok {
			return []ast.Node{sp.Type}
		}
		for _, f := range st.Fields.List {
			if slices.ContainsFunc(f.Names, (*ast.Ident).IsExported) {
				out = append(out, f.Type)
			}
			if len(f.Names) == 0 { // embedded: its methods show
				out = append(out, f.Type)
			}
		}
	}
	return out
}
