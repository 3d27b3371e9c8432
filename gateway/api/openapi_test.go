package api_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/apitest"
	"github.com/signalbox-io/signalbox/rpc"
)

var update = flag.Bool("update", false, "write docs/reference anew")

// The committed reference is what the types say.
func TestReferenceIsCurrent(t *testing.T) {
	openapi, err := api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	marked := append([]byte("# Code generated from the Go types of gateway/api: go test ./gateway/api -run Reference -update. DO NOT EDIT.\n"), openapi...)
	for name, fresh := range map[string][]byte{"openapi.yaml": marked, "problems.md": []byte(api.ProblemsReference())} {
		path := filepath.Join("..", "..", "docs", "reference", name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, fresh, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		committed, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(committed, fresh) {
			t.Errorf("docs/reference/%s is not what the types say (%v): go test ./gateway/api -run Reference -update", name, err)
		}
	}
	if !strings.Contains(string(openapi), "openapi: 3.1.0") {
		t.Error("not OpenAPI 3.1")
	}
}

// The gateway serves the same description that is committed.
func TestOpenAPIIsServed(t *testing.T) {
	c := apitest.Start(t, 1, orders())
	var document struct {
		OpenAPI string         `json:"openapi"`
		Paths   map[string]any `json:"paths"`
	}
	newCaller(t, c, rpc.RoleOperator, "alice").accepted(200, &document, "GET", c.Gateways[0], "/openapi.json", "")
	if document.OpenAPI != "3.1.0" || len(document.Paths) < 12 {
		t.Errorf("got %s with %d paths", document.OpenAPI, len(document.Paths))
	}
}
