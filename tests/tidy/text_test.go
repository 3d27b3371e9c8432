package tidy

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// registries are hosts that serve packages, put together here so that this file does not name them.
var registries = func() []string {
	hosts := [][2]string{
		{"proxy.golang", "org"}, {"sum.golang", "org"}, {"goproxy", "io"},
		{"pypi", "org"}, {"files.pythonhosted", "org"},
		{"registry.npmjs", "org"}, {"registry.yarnpkg", "com"},
		{"deb.debian", "org"}, {"security.debian", "org"}, {"archive.ubuntu", "com"},
		{"repo1.maven", "org"}, {"repo.maven.apache", "org"},
		{"static.crates", "io"}, {"index.crates", "io"},
	}
	var out []string
	for _, h := range hosts {
		out = append(out, h[0]+"."+h[1])
	}
	return out
}()

func checkRegistry(t *tree) []string {
	return t.grep(func(line string) string {
		for _, host := range registries {
			if strings.Contains(line, host) {
				return "names the package registry " + host
			}
		}
		return ""
	})
}

// machinePath is an absolute path into somebody's home or workspace, at the start of a word.
var machinePath = regexp.MustCompile(`(?:^|[\s"'(=:\x60\[])((?:/root|/work|/home/[a-z_][\w.-]*|/Users/[A-Za-z][\w.-]*)/[\w.])`)

func checkMachinePath(t *tree) []string {
	return t.grep(func(line string) string {
		if m := machinePath.FindStringSubmatch(line); m != nil {
			return "has a path of one machine: " + m[1] + "..."
		}
		return ""
	})
}

// grep returns a finding for each line of which what says something.
func (t *tree) grep(what func(line string) string) []string {
	var out []string
	for _, p := range t.paths {
		number := 0
		for line := range strings.Lines(string(t.files[p])) {
			number++
			if finding := what(strings.TrimRight(line, "\n")); finding != "" {
				out = append(out, fmt.Sprintf("%s:%d: %s", p, number, finding))
			}
		}
	}
	return out
}

var (
	fence    = regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```[ \t]*$")
	codeSpan = regexp.MustCompile("`[^`\n]*`")
	link     = regexp.MustCompile(`\[[^\]\n]*\]\(([^)\s]+)[^)\n]*\)`)
	heading  = regexp.MustCompile(`(?m)^#{1,6}[ \t]+(.+?)[ \t#]*$`)
	target   = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):(?:[^=]|$)`)
	command  = regexp.MustCompile(`(?m)(?:^|[\x60\s$;&(])make ((?:[a-z][a-z0-9-]*|[A-Z_]+=\S+)(?: (?:[A-Z_]+=\S+))*)`)
)

func (t *tree) markdown() []string {
	var out []string
	for _, p := range t.paths {
		if strings.HasSuffix(p, ".md") && !strings.Contains("/"+p, "/testdata/") {
			out = append(out, p)
		}
	}
	return out
}

// blank replaces what re matches by as many newlines as it had, so that line numbers stay.
func blank(re *regexp.Regexp, text string) string {
	return re.ReplaceAllStringFunc(text, func(s string) string { return strings.Repeat("\n", strings.Count(s, "\n")) })
}

func lineOf(text string, offset int) int { return strings.Count(text[:offset], "\n") + 1 }

// checkLinks follows every relative link of every Markdown file, its #anchor too.
func checkLinks(t *tree) []string {
	var out []string
	for _, p := range t.markdown() {
		text := blank(codeSpan, blank(fence, string(t.files[p])))
		for _, m := range link.FindAllStringSubmatchIndex(text, -1) {
			to := text[m[2]:m[3]]
			if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			if problem := t.follow(p, to); problem != "" {
				out = append(out, fmt.Sprintf("%s:%d: %s", p, lineOf(text, m[0]), problem))
			}
		}
	}
	return out
}

func (t *tree) follow(from, to string) string {
	file, anchor, _ := strings.Cut(to, "#")
	p := from
	if file != "" {
		p = path.Join(path.Dir(from), file)
	}
	if !t.exists(p) {
		return "links to " + to + ", which is not there"
	}
	if anchor != "" && strings.HasSuffix(p, ".md") && !slices.Contains(anchors(string(t.files[p])), anchor) {
		return "links to " + to + ", and there is no such heading"
	}
	return ""
}

// exists says whether p is a file of the tree or a folder with files.
func (t *tree) exists(p string) bool {
	return p == "." || slices.ContainsFunc(t.paths, func(q string) bool { return within(q, strings.TrimSuffix(p, "/")) })
}

// anchors are the names that GitHub gives to a page's headings.
func anchors(text string) []string {
	var out []string
	seen := make(map[string]int)
	for _, m := range heading.FindAllStringSubmatch(blank(fence, text), -1) {
		var b strings.Builder
		for _, r := range strings.ToLower(strings.ReplaceAll(m[1], "`", "")) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r > 127:
				b.WriteRune(r)
			}
		}
		name := b.String()
		if n := seen[name]; n > 0 {
			out = append(out, fmt.Sprintf("%s-%d", name, n))
		} else {
			out = append(out, name)
		}
		seen[name]++
	}
	return out
}

// checkMakeTargets holds every `make x` in code spans and blocks of Markdown against the Makefile's targets.
func checkMakeTargets(t *tree) []string {
	var targets []string
	for _, m := range target.FindAllStringSubmatch(string(t.files["Makefile"]), -1) {
		targets = append(targets, m[1])
	}
	var out []string
	for _, p := range t.markdown() {
		text := string(t.files[p])
		code := append(fence.FindAllStringIndex(text, -1), codeSpan.FindAllStringIndex(blankInPlace(text), -1)...)
		for _, c := range code {
			for _, m := range command.FindAllStringSubmatchIndex(text[c[0]:c[1]], -1) {
				for name := range strings.FieldsSeq(text[c[0]+m[2] : c[0]+m[3]]) {
					if !strings.Contains(name, "=") && !slices.Contains(targets, name) {
						out = append(out, fmt.Sprintf("%s:%d: make %s is no target", p, lineOf(text, c[0]+m[2]), name))
					}
				}
			}
		}
	}
	return out
}

// blankInPlace blanks the fenced blocks and keeps every offset.
func blankInPlace(text string) string {
	return fence.ReplaceAllStringFunc(text, func(s string) string { return strings.Repeat("\n", len(s)) })
}
