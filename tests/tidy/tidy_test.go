package tidy

import (
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// rule is one house rule. check returns one line per place that breaks it, "path:line: what is wrong".
type rule struct {
	name  string
	why   string
	check func(*tree) []string
}

// rules are all rules that need nothing but the files of the tree.
var rules = []rule{
	{"direction", "imports go one way, so that an agent stays small and a layer can be understood without those above it", checkDirection},
	{"oracle", "the oracle judges the product: code that both share could be wrong in both", checkOracle},
	{"pure", "a pure package takes time as an argument and has no effects, so every interleaving can be replayed in a test", checkPure},
	{"sleep", "a sleep in place of a condition is slow when it passes and flaky when it does not: wait for the condition, or use testing/synctest", checkSleep},
	{"skip", "a skipped test guards nothing: what it needs is installed by `make tools`, and what is missing is a failure", checkSkip},
	{"init", "importing a package must have no effect: what it needs is passed in", checkInit},
	{"state", "state at package level is shared by every test and every instance in the process: put it into a struct", checkState},
	{"names", "a package is named after what it does; such a name collects what nobody found a place for", checkNames},
	{"filelength", "a file is one idea, about 300 lines, 500 at most: split it by what it does", checkFileLength},
	{"funclength", "a function fits on a screen, 70 lines at most (p90 35): name its parts", checkFuncLength},
	{"packagedoc", "a package comment says what the package guarantees and what it does not", checkPackageDoc},
	{"exporteddoc", "exported things are documented: what it does, units, which errors", checkExportedDoc},
	{"generated", "generated code is marked, so that nobody edits it and linters leave it alone", checkGeneratedMark},
	{"registry", "where packages come from is the user's configuration (proxies, mirrors), not the project's", checkRegistry},
	{"machinepath", "a path of one machine is wrong on every other", checkMachinePath},
	{"links", "a dead link in the documentation sends a reader nowhere", checkLinks},
	{"maketargets", "a command in the documentation has to exist", checkMakeTargets},
	{"replace", "a replace in go.mod does not reach those who import the module: they would build something else", checkReplace},
	{"versions", "the design names these versions because others misbehave or do not fit together", checkVersions},
}

// TestTidy guards every house rule that can be read off the files.
func TestTidy(t *testing.T) {
	repo, err := loadTree(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, finding := range r.check(repo) {
				t.Errorf("%s\n\twhy: %s", finding, r.why)
			}
		})
	}
}

// TestRulesCatch guards the rules themselves: each finds what is wrong in its broken trees, and nothing else.
func TestRulesCatch(t *testing.T) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			archives, err := filepath.Glob(filepath.Join("testdata", "broken", r.name+"*.txtar"))
			if err != nil || len(archives) == 0 {
				t.Fatalf("no testdata/broken/%s.txtar: a rule that was never seen to fail guards nothing (%v)", r.name, err)
			}
			for _, path := range archives {
				compare(t, path, r)
			}
		})
	}
}

func compare(t *testing.T, path string, r rule) {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for _, f := range archive.Files {
		files[f.Name] = f.Data
	}
	broken, err := newTree(files)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(archive.Comment)) {
		if w, ok := strings.CutPrefix(line, "# want: "); ok {
			want = append(want, strings.TrimSpace(w))
		}
	}
	got := r.check(broken)
	sort.Strings(want)
	sort.Strings(got)
	if len(got) != len(want) || len(want) == 0 {
		t.Fatalf("%s: got %d findings:\n\t%s\nwant %d:\n\t%s", path, len(got), strings.Join(got, "\n\t"), len(want), strings.Join(want, "\n\t"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("%s: got %q, want it to begin with %q", path, got[i], want[i])
		}
	}
}

// TestNoStrayFixture guards against a broken tree that no rule reads.
func TestNoStrayFixture(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join("testdata", "broken"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name, _, _ := strings.Cut(strings.TrimSuffix(e.Name(), ".txtar"), "-")
		found := false
		for _, r := range rules {
			found = found || r.name == name
		}
		if !found {
			t.Errorf("testdata/broken/%s belongs to no rule", e.Name())
		}
	}
}
