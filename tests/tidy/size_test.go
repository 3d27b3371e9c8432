package tidy

import (
	"fmt"
	"go/ast"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	maxFileLines = 500
	maxFuncLines = 70
	maxFuncP90   = 35
)

func checkFileLength(t *tree) []string {
	var out []string
	for _, f := range t.gos {
		if f.lines > maxFileLines && !f.generated {
			out = append(out, fmt.Sprintf("%s: %d lines", f.path, f.lines))
		}
	}
	return out
}

// length counts a function's lines from its signature to its closing brace.
func length(f *goFile, fn *ast.FuncDecl) int {
	return f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
}

func checkFuncLength(t *tree) []string {
	var out []string
	for _, f := range t.product() {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && length(f, fn) > maxFuncLines {
				out = append(out, fmt.Sprintf("%s: %s has %d lines", f.at(fn.Pos()), fn.Name.Name, length(f, fn)))
			}
		}
	}
	return out
}

// TestFunctionLengthP90 guards the house's habit of short functions as a whole.
func TestFunctionLengthP90(t *testing.T) {
	repo, err := loadTree(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	var lengths []int
	for _, f := range repo.product() {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				lengths = append(lengths, length(f, fn))
			}
		}
	}
	if len(lengths) == 0 {
		return
	}
	slices.Sort(lengths)
	p90 := lengths[len(lengths)*9/10]
	t.Logf("%d functions, p90 %d lines, longest %d", len(lengths), p90, lengths[len(lengths)-1])
	if p90 > maxFuncP90 {
		t.Errorf("nine in ten functions have up to %d lines, more than %d: functions fit on a screen", p90, maxFuncP90)
	}
}

func checkPackageDoc(t *tree) []string {
	type pkg struct {
		name, first, doc string
	}
	pkgs := make(map[string]*pkg)
	var dirs []string
	for _, f := range t.gos {
		if f.test || f.generated {
			continue
		}
		p := pkgs[f.dir]
		if p == nil {
			p = &pkg{name: f.ast.Name.Name, first: f.path}
			pkgs[f.dir] = p
			dirs = append(dirs, f.dir)
		}
		if f.ast.Doc != nil {
			p.doc = f.ast.Doc.Text()
		}
	}
	var out []string
	for _, dir := range dirs {
		p := pkgs[dir]
		switch {
		case p.doc == "":
			out = append(out, fmt.Sprintf("%s: package %s has no package comment", p.first, p.name))
		case p.name != "main" && !strings.HasPrefix(p.doc, "Package "+p.name+" "):
			out = append(out, fmt.Sprintf("%s: the package comment does not begin with \"Package %s \"", p.first, p.name))
		}
	}
	return out
}

func checkExportedDoc(t *tree) []string {
	var out []string
	for _, f := range t.product() {
		if f.ast.Name.Name == "main" {
			continue
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) && !plumbing(d) {
					out = append(out, fmt.Sprintf("%s: func %s has no comment", f.at(d.Pos()), d.Name.Name))
				}
			case *ast.GenDecl:
				out = append(out, undocumented(f, d)...)
			}
		}
	}
	return out
}

// plumbing are methods whose meaning the standard library's interface gives: a comment would only repeat it.
func plumbing(fn *ast.FuncDecl) bool {
	names := []string{"Error", "String", "Unwrap", "Is", "As", "Len", "Less", "Swap", "MarshalText", "UnmarshalText", "MarshalJSON", "UnmarshalJSON"}
	return fn.Recv != nil && slices.Contains(names, fn.Name.Name)
}

func exportedReceiver(fn *ast.FuncDecl) bool {
	if fn.Recv == nil {
		return true
	}
	e := fn.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// undocumented finds exported types, constants and variables without a comment. A group's comment stands for its members.
func undocumented(f *goFile, d *ast.GenDecl) []string {
	var out []string
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil && (d.Doc == nil || d.Lparen.IsValid()) {
				out = append(out, fmt.Sprintf("%s: type %s has no comment", f.at(s.Pos()), s.Name.Name))
			}
		case *ast.ValueSpec:
			if s.Doc == nil && s.Comment == nil && d.Doc == nil && s.Names[0].IsExported() {
				out = append(out, fmt.Sprintf("%s: %s has no comment", f.at(s.Pos()), s.Names[0].Name))
			}
		}
	}
	return out
}
