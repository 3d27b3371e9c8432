package tidy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// bounds are the versions that the design names: the module, the prefix its version must have, and why.
// A module that is not in go.mod yet is waited for.
var bounds = []struct{ module, prefix, why string }{
	{"github.com/envoyproxy/go-control-plane", "v0.14.", "measured with it; its SotW server carries proxyless gRPC"},
	{"github.com/envoyproxy/go-control-plane/envoy", "v1.40.", "the API of the Envoy that is installed"},
	{"github.com/hashicorp/memberlist", "v0.7.", "its transport and delegate contracts are relied on"},
	{"github.com/consensys/gnark-crypto", "v0.22.", "signing is blinded around how this version multiplies: read that again before taking another"},
	{"google.golang.org/grpc", "v1.85.", "its xds resolver's timing was measured"},
	{"github.com/grafana/grafana-foundation-sdk/go", "v0.0.12", "the exact version: others generate other dashboards"},
	{"github.com/goccy/go-yaml", "v1.", "errors with line and column"},
	{"github.com/danielgtaylor/huma/v2", "v2.", "OpenAPI 3.1 from Go types"},
}

var (
	requirement = regexp.MustCompile(`(?m)^(?:require)?[ \t]+(\S+) (v\S+)`)
	replacement = regexp.MustCompile(`(?m)^[^/\n]*=>`)
	pin         = regexp.MustCompile(`(?m)^([A-Z_]+_VERSION)\s*:=\s*(\S+)$`)
)

func requirements(t *tree) map[string]string {
	out := make(map[string]string)
	for _, m := range requirement.FindAllStringSubmatch(string(t.files["go.mod"]), -1) {
		out[m[1]] = m[2]
	}
	return out
}

func checkReplace(t *tree) []string {
	text := string(t.files["go.mod"])
	var out []string
	for _, m := range replacement.FindAllStringIndex(text, -1) {
		out = append(out, fmt.Sprintf("go.mod:%d: a replacement", lineOf(text, m[0])))
	}
	return out
}

// checkVersions holds go.mod against the bounds, and the Makefile's pins against go.mod.
func checkVersions(t *tree) []string {
	have := requirements(t)
	var out []string
	for _, b := range bounds {
		if v, here := have[b.module]; here && !strings.HasPrefix(v, b.prefix) {
			out = append(out, fmt.Sprintf("go.mod: %s is %s, not %s*: %s", b.module, v, b.prefix, b.why))
		}
	}
	pins := make(map[string]string)
	for _, m := range pin.FindAllStringSubmatch(string(t.files["Makefile"]), -1) {
		pins[m[1]] = m[2]
	}
	same := []struct{ pin, prefix, module string }{
		{"PROTOC_GEN_GO_VERSION", "", "google.golang.org/protobuf"},
		{"ENVOY_VERSION", "v", "github.com/envoyproxy/go-control-plane/envoy"},
	}
	for _, s := range same {
		if p, v := pins[s.pin], have[s.module]; p != "" && v != "" && s.prefix+p != v {
			out = append(out, fmt.Sprintf("Makefile: %s is %s, and go.mod has %s %s", s.pin, p, s.module, v))
		}
	}
	return out
}

// generatedNames are the endings that our generators give.
var generatedNames = []string{".pb.go", ".gen.go", "_gen.go"}

func checkGeneratedMark(t *tree) []string {
	var out []string
	for _, f := range t.gos {
		named := slices.ContainsFunc(generatedNames, func(end string) bool { return strings.HasSuffix(f.path, end) })
		switch {
		case named && !f.generated:
			out = append(out, fmt.Sprintf("%s: is named like generated code and has no \"Code generated ... DO NOT EDIT.\" line", f.path))
		case f.generated && !named:
			out = append(out, fmt.Sprintf("%s: is generated and not named so (%s)", f.path, strings.Join(generatedNames, ", ")))
		}
	}
	return out
}
