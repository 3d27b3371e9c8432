package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// sleeps are the files that may sleep in real time, and why. An entry that is not needed is a finding.
var sleeps = map[string]string{
	"membership/gossip/gossiptest/network.go": "the sleep is the simulated network's delay, in a synctest bubble's time",
}

// checkSleep finds time.Sleep and a bare <-time.After. In a testing/synctest bubble time is virtual, so there it may
// stand: within the function given to synctest.Test, or to a function of the package that calls synctest.Test, and in
// the test helpers of a package with bubbles (functions that are no tests themselves). A function named eventually is
// the other exception: it polls a condition that nothing announces, and the sleep is only its pace.
func checkSleep(t *tree) []string {
	var out []string
	used := make(map[string]bool)
	inBubbles := make(map[string][]string) // by folder
	for _, f := range t.gos {
		inBubbles[f.dir] = append(inBubbles[f.dir], bubbles(f)...)
	}
	for _, f := range t.gos {
		s := sleeper{goFile: f, bubbles: inBubbles[f.dir], selects: make(map[ast.Node]bool)}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && f.test && len(s.bubbles) > 0 && !strings.HasPrefix(fn.Name.Name, "Test") {
				continue
			}
			if ok && f.underTests() && fn.Name.Name == "eventually" {
				continue
			}
			ast.Inspect(d, s.look)
		}
		used[f.path] = len(s.found) > 0
		if sleeps[f.path] == "" {
			out = append(out, s.found...)
		}
	}
	for p := range sleeps {
		if _, here := t.files[p]; here && !used[p] {
			out = append(out, fmt.Sprintf("%s: is allowed to sleep and does not: take it off the list", p))
		}
	}
	return out
}

// bubbles are the names of the file's functions that run what they are given in a bubble; "" stands for synctest.Test.
func bubbles(f *goFile) []string {
	var out []string
	for _, d := range f.ast.Decls {
		ast.Inspect(d, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && f.selector(call.Fun, "testing/synctest", "Test") {
				out = append(out, "")
				if fn, ok := d.(*ast.FuncDecl); ok && !strings.HasPrefix(fn.Name.Name, "Test") {
					out = append(out, fn.Name.Name)
				}
			}
			return true
		})
	}
	return out
}

// sleeper looks for sleeps in one file.
type sleeper struct {
	*goFile
	bubbles []string
	selects map[ast.Node]bool // a select's cases: there time.After is a limit, not a sleep
	found   []string
}

func (s *sleeper) look(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CommClause:
		s.selects[n.Comm] = true
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && slices.Contains(s.bubbles, id.Name) || s.selector(n.Fun, "testing/synctest", "Test") {
			return false
		}
		if s.selector(n.Fun, "time", "Sleep") {
			s.found = append(s.found, fmt.Sprintf("%s: time.Sleep (the few that may stand are in tests/tidy, with their reason)", s.at(n.Pos())))
		}
	case *ast.ExprStmt:
		wait, ok := n.X.(*ast.UnaryExpr)
		if !ok || wait.Op != token.ARROW || s.selects[n] {
			return true
		}
		if call, ok := wait.X.(*ast.CallExpr); ok && s.selector(call.Fun, "time", "After") {
			s.found = append(s.found, fmt.Sprintf("%s: a bare <-time.After is a sleep", s.at(n.Pos())))
		}
	}
	return true
}

func checkSkip(t *tree) []string {
	var out []string
	for _, f := range t.gos {
		if !f.underTests() {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, _ := sel.X.(*ast.Ident)
			if slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) && x != nil && slices.Contains([]string{"t", "b", "f", "tb"}, x.Name) {
				out = append(out, fmt.Sprintf("%s: %s.%s", f.at(n.Pos()), x.Name, sel.Sel.Name))
			}
			if f.selector(sel, "testing", "Short") {
				out = append(out, fmt.Sprintf("%s: testing.Short", f.at(n.Pos())))
			}
			return true
		})
	}
	return out
}

func checkInit(t *tree) []string {
	var out []string
	for _, f := range t.gos {
		if f.generated {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				out = append(out, fmt.Sprintf("%s: func init", f.at(fn.Pos())))
			}
		}
	}
	return out
}

// checkState finds variables at package level that are written by a function of the package, and those whose type
// exists to be changed (sync, atomic). Test files are left alone: -update flags are theirs.
func checkState(t *tree) []string {
	var out []string
	globals := make(map[string]map[string]bool) // by folder and name
	for _, f := range t.product() {
		for _, d := range f.ast.Decls {
			gen, ok := d.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR {
				continue
			}
			for _, s := range gen.Specs {
				spec := s.(*ast.ValueSpec)
				for _, name := range spec.Names {
					if globals[f.dir] == nil {
						globals[f.dir] = make(map[string]bool)
					}
					globals[f.dir][name.Name] = name.Name != "_"
				}
				if sel, ok := spec.Type.(*ast.SelectorExpr); ok {
					if x, ok := sel.X.(*ast.Ident); ok && (x.Name == "sync" || x.Name == "atomic") {
						out = append(out, fmt.Sprintf("%s: %s is a %s.%s at package level", f.at(spec.Pos()), spec.Names[0].Name, x.Name, sel.Sel.Name))
					}
				}
			}
		}
	}
	for _, f := range t.product() {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			var targets []ast.Expr
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					targets = n.Lhs
				}
			case *ast.IncDecStmt:
				targets = []ast.Expr{n.X}
			}
			for _, e := range targets {
				if id := written(e); id != nil && globals[f.dir][id.Name] && packageLevel(f, id) {
					out = append(out, fmt.Sprintf("%s: writes the package's variable %s", f.at(id.Pos()), id.Name))
				}
			}
			return true
		})
	}
	return out
}

// written returns the variable that an assignment to e changes: x in x, x[i] and x.f.
func written(e ast.Expr) *ast.Ident {
	switch e := e.(type) {
	case *ast.Ident:
		return e
	case *ast.IndexExpr:
		return written(e.X)
	case *ast.SelectorExpr:
		return written(e.X)
	}
	return nil
}

// packageLevel says whether id is not a local variable. The parser resolves within a file only, so an identifier that it
// left open belongs to another file of the package, or to a package.
func packageLevel(f *goFile, id *ast.Ident) bool {
	if id.Obj == nil {
		return true
	}
	return f.ast.Scope.Lookup(id.Name) == id.Obj
}

func checkNames(t *tree) []string {
	bad := []string{"util", "utils", "common", "types", "helper", "helpers", "misc", "shared", "base", "lib", "internal"}
	var out []string
	seen := make(map[string]bool)
	for _, f := range t.gos {
		name := strings.TrimSuffix(f.ast.Name.Name, "_test")
		if slices.Contains(bad, name) && !seen[f.dir] {
			seen[f.dir] = true
			out = append(out, fmt.Sprintf("%s: package %s", f.path, name))
		}
	}
	return out
}
