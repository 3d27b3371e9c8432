package handover_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestInvariantsAreGuarded keeps INVARIANTS.md true: every test and every clause
// of the model that it names is there.
func TestInvariantsAreGuarded(t *testing.T) {
	raw, err := os.ReadFile("INVARIANTS.md")
	if err != nil {
		t.Fatal(err)
	}
	folder := regexp.MustCompile("`((?:gateway|membership|rpc|tests|xds)[a-z0-9/]*)`:")
	test := regexp.MustCompile(`\bTest[A-Z]\w*`)
	rules, broken, _ := strings.Cut(string(raw), "## How each was broken")
	named := 0
	for item := range strings.SplitSeq(rules, "\n- ") {
		marks := folder.FindAllStringSubmatchIndex(item, -1)
		for i, m := range marks {
			end := len(item)
			if i+1 < len(marks) {
				end = marks[i+1][0]
			}
			where, what := item[m[2]:m[3]], item[m[1]:end]
			have := sources(t, filepath.Join("..", "..", where))
			for _, name := range test.FindAllString(what, -1) {
				named++
				if !strings.Contains(have, "func "+name+"(") {
					t.Errorf("%s has no %s", where, name)
				}
			}
			if where == "tests/model" {
				for _, clause := range regexp.MustCompile(`\b[A-Z][a-z]+[A-Z]\w+`).FindAllString(what, -1) {
					named++
					if !strings.Contains(have, `{"`+clause+`",`) {
						t.Errorf("the model has no clause %s", clause)
					}
				}
			}
		}
	}
	for _, name := range test.FindAllString(broken, -1) {
		if !strings.Contains(rules, name) {
			t.Errorf("%s failed when a rule was broken and stands with none", name)
		}
	}
	if named < 80 {
		t.Errorf("only %d names found", named)
	}
}

var read = map[string]string{}

func sources(t *testing.T, dir string) string {
	if read[dir] != "" {
		return read[dir]
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal("no sources in", dir, err)
	}
	var all strings.Builder
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(raw)
	}
	read[dir] = all.String()
	return read[dir]
}
