package chaos

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// unreached are the steps that the code defines and that nothing can reach.
var unreached = map[string]string{
	"agent-open-durable":        "is not waited for: a block that is lost comes again",
	"agent-certificate-durable": "is not waited for: a certificate that is lost comes again",
	"agent-admission-durable":   "is not waited for: an admission that is lost comes again",

	"journal-drop-certificate-before": onlyStatements, "journal-drop-certificate-unsynced": onlyStatements, "journal-drop-certificate-durable": onlyStatements,
	"journal-drop-endpoints-before": onlyStatements, "journal-drop-endpoints-unsynced": onlyStatements, "journal-drop-endpoints-durable": onlyStatements,
	"journal-drop-incarnation-before": onlyStatements, "journal-drop-incarnation-unsynced": onlyStatements, "journal-drop-incarnation-durable": onlyStatements,
}

const onlyStatements = "notes of this kind are replaced, never dropped"

// TestEveryFailpointIsInTheMatrix guards the matrix: a step that reaches a disk, named in the code, is one at which a
// process is killed by TestFailpoints, or has a reason above.
func TestEveryFailpointIsInTheMatrix(t *testing.T) {
	tested := map[string]bool{}
	for _, points := range [][]Failpoint{Failpoints(), VoterFailpoints(), FirstFailpoints()} {
		for _, p := range points {
			tested[p.Name] = true
		}
	}
	defined := defined(t)
	if len(defined) < 20 {
		t.Fatalf("%d failpoints found: %v", len(defined), defined)
	}
	for _, name := range slices.Sorted(maps.Keys(defined)) {
		if !tested[name] && unreached[name] == "" {
			t.Errorf("%s (%s) is not in the matrix: nobody is ever killed there; give it a trigger in failpoints.go", name, defined[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tested)) {
		if defined[name] == "" || unreached[name] != "" {
			t.Errorf("%s is in the matrix, and the code does not reach it", name)
		}
	}
}

// defined reads from the sources what names failpoint.Reach is given, by where.
func defined(t *testing.T) map[string]string {
	journal := parsed(t, "../../gateway/journal", "../../gateway/coordinator")
	agent := parsed(t, "../../membership/agent")
	// No other package may reach one in a way that this test does not know.
	calls := map[string]int{}
	walked := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			if d != nil && d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && strings.Trim(d.Name(), ".") != "") {
				return filepath.SkipDir
			}
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		if n := len(arguments(file, "Reach")); n > 0 {
			calls[strings.TrimPrefix(filepath.ToSlash(path), "../../")] = n
		}
		return nil
	})
	if want := map[string]int{"gateway/journal/update.go": 3, "membership/agent/store.go": 4}; walked != nil || !maps.Equal(calls, want) {
		t.Errorf("failpoints are reached in %v, and this test reads %v: %v", calls, want, walked)
	}
	out := map[string]string{}
	for _, name := range expand(journal, "update") {
		for _, step := range []string{"before", "unsynced", "durable"} {
			out["journal-"+name+"-"+step] = "gateway/journal"
		}
	}
	for _, name := range returned(agent, "what") {
		for _, step := range []string{"before", "unsynced", "durable"} {
			out["agent-"+name+"-"+step] = "membership/agent"
		}
	}
	for _, name := range expand(agent, "step") {
		out["agent-"+strings.ReplaceAll(name, " ", "-")] = "membership/agent"
	}
	return out
}

func parsed(t *testing.T, dirs ...string) (files []*ast.File) {
	for _, dir := range dirs {
		paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
	}
	return files
}

// arguments are the first ones of all calls of a method.
func arguments(file *ast.File, method string) (out []ast.Expr) {
	ast.Inspect(file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > 0 {
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == method {
				out = append(out, call.Args[0])
			}
		}
		return true
	})
	return out
}

// expand are the names that a method is called with: literals, and those that end
// in a kind of notes or in a file's name.
func expand(files []*ast.File, method string) (out []string) {
	for _, file := range files {
		for _, arg := range arguments(file, method) {
			switch e := arg.(type) {
			case *ast.BasicLit:
				out = append(out, literal(e))
			case *ast.BinaryExpr:
				for _, end := range append(constants(files, "Kind"), constants(files, "File")...) {
					out = append(out, literal(e.X)+end)
				}
			}
		}
	}
	return out
}

func literal(e ast.Expr) string {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		text, _ := strconv.Unquote(l.Value) // the parser took it
		return text
	}
	return ""
}

// constants are the values of those whose type is Kind, or which are the names of
// the agent's own two files.
func constants(files []*ast.File, of string) (out []string) {
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) == 0 {
				return true
			}
			name := v.Names[0].Name
			switch {
			case of == "Kind" && strings.HasPrefix(strings.ToLower(name), "kind"), of == "File" && (name == "keyFile" || name == "stateFile"):
				if text := literal(v.Values[0]); text != "" {
					out = append(out, text)
				}
			}
			return true
		})
	}
	return out
}

// returned are the strings that a method returns; what it returns an answer's kind
// after is followed by both.
func returned(files []*ast.File, method string) (out []string) {
	for _, file := range files {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Name.Name != method {
				continue
			}
			ast.Inspect(f.Body, func(n ast.Node) bool {
				if r, ok := n.(*ast.ReturnStmt); ok {
					if text := literal(r.Results[0]); text != "" {
						out = append(out, text)
					} else if sum, ok := r.Results[0].(*ast.BinaryExpr); ok {
						out = append(out, literal(sum.X)+"ack", literal(sum.X)+"refuse")
					}
				}
				return true
			})
		}
	}
	return out
}
