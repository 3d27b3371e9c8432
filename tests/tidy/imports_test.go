package tidy

import (
	"fmt"
	"slices"
	"strings"
)

// layers says what the packages below a top folder may import of this module, beside their own folder.
// The root package's folder is ".". The tests may import anything; the oracle has a rule of its own.
var layers = map[string][]string{
	".":          {},
	"rpc":        {"."},
	"membership": {".", "rpc"},
	"xds":        {".", "rpc"},
	"analytics":  {".", "rpc"},
	"recovery":   {".", "rpc"},
	"gateway":    {".", "rpc", "membership", "xds", "analytics", "recovery"},
	// examples/demo runs a whole site: it asks the gateways and writes bootstraps.
	"examples": {".", "rpc", "membership", "gateway", "xds"},
	"cmd":      {".", "rpc", "membership", "xds", "analytics", "recovery", "gateway", "examples"},
	"deploy":   {},
	"docs":     {},
}

func top(dir string) string {
	first, _, _ := strings.Cut(dir, "/")
	return first
}

// local returns the folder of an import of this module.
func local(importPath string) (string, bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func checkDirection(t *tree) []string {
	var out []string
	for _, f := range t.gos {
		from := top(f.dir)
		if from == "tests" {
			continue
		}
		may, known := layers[from]
		if !known {
			out = append(out, fmt.Sprintf("%s: %s/ is no folder of the layout", f.path, from))
			continue
		}
		for _, spec := range f.imported() {
			to, ours := local(strings.Trim(spec.Path.Value, `"`))
			switch {
			case !ours || top(to) == from || slices.Contains(may, top(to)):
				if to == "gateway/server" && from == "gateway" && f.dir != "gateway/server" && !f.test {
					out = append(out, fmt.Sprintf("%s: %s imports the composition root", f.at(spec.Pos()), f.dir))
				}
			case f.test && top(to) == "tests":
				// A test may use the tests' machinery, for example the oracle.
			case to == "tests/oracle" && (f.dir == "examples/demo" || f.dir == "cmd/signalbox"):
				// The demo shows what the oracle says of its run.
			default:
				out = append(out, fmt.Sprintf("%s: %s imports %s", f.at(spec.Pos()), f.dir, to))
			}
		}
	}
	return out
}

func checkOracle(t *tree) []string {
	var out []string
	for _, f := range t.gos {
		if !within(f.dir, "tests/oracle") {
			continue
		}
		for _, spec := range f.imported() {
			if to, ours := local(strings.Trim(spec.Path.Value, `"`)); ours && !within(to, "tests/oracle") {
				out = append(out, fmt.Sprintf("%s: imports %s", f.at(spec.Pos()), to))
			}
		}
	}
	return out
}
