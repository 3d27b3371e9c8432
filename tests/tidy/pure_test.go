package tidy

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

// pure are the packages that decide and do nothing else. Folders that do not exist yet are waited for.
var pure = []string{
	".",
	"gateway/handover",
	"gateway/policy",
	"membership/agreement",
	"membership/lease",
	"membership/signature",
	"xds/resource",
	"tests/model",
}

// impureImports are packages that reach outside. crypto/rand is none of them: a key needs it, and callers pass its Reader.
var impureImports = []string{"os", "net", "io/ioutil", "syscall", "log", "unsafe", "plugin", "runtime/debug"}

// pureNet are the parts of net that only compute.
var pureNet = []string{"net/netip", "net/url", "net/textproto"}

// clocks are what reads or waits for the clock.
var clocks = []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep"}

func checkPure(t *tree) []string {
	var out []string
	for _, f := range t.product() {
		if !slices.Contains(pure, f.dir) {
			continue
		}
		for _, spec := range f.imported() {
			p := strings.Trim(spec.Path.Value, `"`)
			if within(p, impureImports...) && !slices.Contains(pureNet, p) {
				out = append(out, fmt.Sprintf("%s: imports %s", f.at(spec.Pos()), p))
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				out = append(out, fmt.Sprintf("%s: starts a goroutine", f.at(n.Pos())))
			case *ast.SelectorExpr:
				if f.selector(n, "time", clocks...) {
					out = append(out, fmt.Sprintf("%s: uses time.%s", f.at(n.Pos()), n.Sel.Name))
				}
			}
			return true
		})
	}
	return out
}
