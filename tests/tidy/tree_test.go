package tidy

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const module = "github.com/signalbox-io/signalbox"

// tree is a checkout's text files and its parsed Go files.
type tree struct {
	files map[string][]byte // by slash-separated path from the top
	paths []string          // sorted keys of files
	gos   []*goFile         // sorted by path
}

// goFile is one parsed Go file.
type goFile struct {
	path      string
	dir       string // "." for the root package
	fset      *token.FileSet
	ast       *ast.File
	lines     int
	test      bool // *_test.go
	generated bool // carries the marker
}

// at says where a node is, as path:line.
func (f *goFile) at(p token.Pos) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(p).Line)
}

// underTests says whether the file belongs to tests: a test file, or anything below tests/.
func (f *goFile) underTests() bool {
	return f.test || strings.HasPrefix(f.dir+"/", "tests/")
}

// imported returns the import specs' paths in order.
func (f *goFile) imported() []*ast.ImportSpec { return f.ast.Imports }

// selector says whether e is pkg.name for an import of importPath in this file.
func (f *goFile) selector(e ast.Expr, importPath string, names ...string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	if !ok || !slices.Contains(names, sel.Sel.Name) {
		return false
	}
	for _, spec := range f.ast.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		local := path.Base(p)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		if p == importPath && local == id.Name {
			return true
		}
	}
	return false
}

// ignored are folders that are not the project's text.
var ignored = []string{".git", ".tools", "bin", "node_modules"}

// loadTree reads the checkout at top. The broken trees of this package's own testdata are left out.
func loadTree(top string) (*tree, error) {
	files := make(map[string][]byte)
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil // somebody's temporary file
			}
			return err
		}
		rel, err := filepath.Rel(top, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if slices.Contains(ignored, d.Name()) || rel == "tests/tidy/testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(p)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if bytes.IndexByte(data[:min(len(data), 8000)], 0) < 0 {
			files[rel] = data
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return newTree(files)
}

func newTree(files map[string][]byte) (*tree, error) {
	t := &tree{files: files}
	for p := range files {
		t.paths = append(t.paths, p)
	}
	slices.Sort(t.paths)
	for _, p := range t.paths {
		if !strings.HasSuffix(p, ".go") || strings.Contains("/"+p, "/testdata/") {
			continue
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, p, files[p], parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w", p, err)
		}
		t.gos = append(t.gos, &goFile{
			path:      p,
			dir:       path.Dir(p),
			fset:      fset,
			ast:       parsed,
			lines:     bytes.Count(files[p], []byte("\n")),
			test:      strings.HasSuffix(p, "_test.go"),
			generated: ast.IsGenerated(parsed),
		})
	}
	return t, nil
}

// product returns the Go files that people wrote for the product or the tests' machinery: no test files, nothing generated.
func (t *tree) product() []*goFile {
	var out []*goFile
	for _, f := range t.gos {
		if !f.test && !f.generated {
			out = append(out, f)
		}
	}
	return out
}

// within says whether the package folder dir is one of the folders or below one.
func within(dir string, folders ...string) bool {
	for _, folder := range folders {
		if dir == folder || strings.HasPrefix(dir, folder+"/") {
			return true
		}
	}
	return false
}
