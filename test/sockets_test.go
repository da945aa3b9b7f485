package test

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// openers: what opens a socket, by the import path that holds it. A word ending
// in * stands for all that begin so.
func openers() map[string]string {
	return map[string]string{
		"net":                        "Listen* Dial* ListenConfig Dialer FileListener FileConn FilePacketConn Lookup* DefaultResolver",
		"net/http":                   "Get Post PostForm Head ListenAndServe* DefaultClient DefaultTransport",
		"net/rpc":                    "Dial*",
		"net/smtp":                   "Dial SendMail",
		"crypto/tls":                 "Dial* Listen Dialer",
		"syscall":                    "Socket Bind Connect Listen",
		"golang.org/x/sys/unix":      "Socket Bind Connect Listen",
		"golang.org/x/net/proxy":     "Dial FromEnvironment",
		"github.com/miekg/dns":       "Exchange* ListenAndServe* Dial*",
		"github.com/pion/stun/v4":    "Dial*",
		"github.com/pion/dtls/v3":    "Dial* Listen*",
		"github.com/coder/websocket": "Dial",
	}
}

func matches(words, name string) bool {
	return slices.ContainsFunc(strings.Fields(words), func(w string) bool {
		stem, any := strings.CutSuffix(w, "*")
		return name == w || any && strings.HasPrefix(name, stem)
	})
}

// sockets: core/listen alone opens them; all others are handed theirs, so that a
// door cannot be forgotten and the whole suite runs on a simulated network.
func sockets(s *source) (bad []string) {
	for _, f := range s.shipped() {
		if f.pkg == "core/listen" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if imp, ok := f.from(n); ok && matches(openers()[imp], n.Sel.Name) {
					bad = append(bad, fmt.Sprintf("%s: %s.%s opens a socket outside core/listen", s.at(n), imp, n.Sel.Name))
				}
			case *ast.CompositeLit:
				bad = append(bad, s.ownDialer(f, n)...)
			}
			return true
		})
	}
	return bad
}

// from gives the import path that a selector like net.Dial is taken from.
func (f *file) from(sel *ast.SelectorExpr) (string, bool) {
	x, ok := sel.X.(*ast.Ident)
	if !ok || x.Obj != nil {
		return "", false
	}
	imp, ok := f.imports[x.Name]
	return imp, ok
}

// ownDialer: an HTTP client that is not told how to dial, dials by itself.
func (s *source) ownDialer(f *file, lit *ast.CompositeLit) []string {
	sel, ok := lit.Type.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	needs := map[string]string{
		"net/http.Client":             "Transport",
		"net/http.Transport":          "DialContext",
		"net.Resolver":                "Dial",
		"github.com/miekg/dns.Client": "Dialer",
	}
	imp, _ := f.from(sel)
	field, found := needs[imp+"."+sel.Sel.Name]
	if !found || slices.ContainsFunc(lit.Elts, func(e ast.Expr) bool {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			return false
		}
		k, ok := kv.Key.(*ast.Ident)
		return ok && k.Name == field
	}) {
		return nil
	}
	return []string{fmt.Sprintf("%s: %s.%s without %s dials by itself", s.at(lit), imp, sel.Sel.Name, field)}
}

// packageVariables: none that changes, so two whole suites run in one process.
// A pool of spare memory holds nothing that anyone could tell from fresh memory,
// and passes.
func packageVariables(s *source) (bad []string) {
	vars := map[string]map[string]bool{} // package → names
	for _, f := range s.shipped() {
		if vars[f.pkg] == nil {
			vars[f.pkg] = map[string]bool{}
		}
		for _, v := range packageVars(f.ast) {
			for _, n := range v.Names {
				vars[f.pkg][n.Name] = true
			}
			if t := f.stateType(v); t != "" {
				bad = append(bad, fmt.Sprintf("%s: package variable of type %s: it exists to change", s.at(v), t))
			}
		}
	}
	for _, f := range s.shipped() {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil && (fn.Name.Name != "init" || fn.Recv != nil) {
				bad = append(bad, s.assignments(fn.Body, packageVars(f.ast), vars[f.pkg])...)
			}
		}
	}
	return bad
}

func packageVars(f *ast.File) (out []*ast.ValueSpec) {
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
			for _, sp := range g.Specs {
				out = append(out, sp.(*ast.ValueSpec))
			}
		}
	}
	return out
}

func (f *file) stateType(v *ast.ValueSpec) string {
	t := v.Type
	if i, ok := t.(*ast.IndexExpr); ok { // atomic.Pointer[T]
		t = i.X
	}
	sel, ok := t.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	switch imp, _ := f.from(sel); {
	case imp == "sync" && sel.Sel.Name != "Pool", imp == "sync/atomic":
		return imp + "." + sel.Sel.Name
	}
	return ""
}

func (s *source) assignments(body ast.Node, here []*ast.ValueSpec, vars map[string]bool) (bad []string) {
	complain := func(e ast.Expr) {
		if name := rootVariable(e, here, vars); name != "" {
			bad = append(bad, fmt.Sprintf("%s: package variable %s changes", s.at(e), name))
		}
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, l := range n.Lhs {
					complain(l)
				}
			}
		case *ast.IncDecStmt:
			complain(n.X)
		case *ast.CallExpr:
			if fn, ok := n.Fun.(*ast.Ident); ok && fn.Obj == nil && len(n.Args) > 0 && (fn.Name == "delete" || fn.Name == "clear") {
				complain(n.Args[0])
			}
		}
		return true
	})
	return bad
}

// rootVariable gives the package variable that x, x.f, x[i] or *x belongs to.
func rootVariable(e ast.Expr, here []*ast.ValueSpec, vars map[string]bool) string {
	for {
		switch x := e.(type) {
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.Ident:
			if !vars[x.Name] || x.Obj != nil && !declaredBy(x.Obj.Decl, here) {
				return "" // a local one of the same name
			}
			return x.Name
		default:
			return ""
		}
	}
}

func declaredBy(decl any, specs []*ast.ValueSpec) bool {
	spec, ok := decl.(*ast.ValueSpec)
	return ok && slices.Contains(specs, spec)
}
