package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/rpc"
)

var updateSchema = flag.Bool("update-schema", false, "write the JSON Schemas under docs/reference anew")

// testInstance is an instance with a fixed key.
type testInstance struct{ key ed25519.PrivateKey }

func newTestInstance(n byte) testInstance {
	return testInstance{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))}
}

func (i testInstance) public() ed25519.PublicKey { return i.key.Public().(ed25519.PublicKey) }

func (i testInstance) identity() signalbox.Identity { return rpc.IdentityOf(i.public()) }

// TestExitCodes guards the stable exit codes: scripts depend on them.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("any"), 1},
		{signalbox.ErrUnknown, 1},
		{signalbox.ErrUntrusted, 1},
		{signalbox.ErrInvalid, 2},
		{usagef("flag"), 2},
		{signalbox.ErrRefused, 3},
		{signalbox.ErrNotReady, 3},
		{signalbox.ErrNotConfigured, 3},
		{context.DeadlineExceeded, 4},
		{signalbox.ErrUnavailable, 4},
		{withCode(exitReverted, errors.New("reverted")), 5},
		{signalbox.ErrConflict, 6},
		{signalbox.ErrExpectation, 6},
		{withCode(exitFailure, signalbox.ErrInvalid), 1},
	} {
		if got := exitCode(c.err); got != c.code {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.code)
		}
		if c.err == nil {
			continue
		}
		if got := exitCode(fmt.Errorf("switch orders: %w", c.err)); got != c.code {
			t.Errorf("wrapped %v: exit code %d, want %d", c.err, got, c.code)
		}
	}
	if withCode(exitReverted, nil) != nil {
		t.Error("success with an exit code is a failure")
	}
}

// TestEveryVerb guards that every verb says what it does and that unknown flags
// and missing arguments are usage errors, none of them silent.
func TestEveryVerb(t *testing.T) {
	var visit func(cmd *cobra.Command, path []string)
	visit = func(cmd *cobra.Command, path []string) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: the short help is %q", cmd.CommandPath(), cmd.Short)
		}
		if cmd.RunE == nil {
			t.Errorf("%s: has no RunE, so it cannot fail", cmd.CommandPath())
		}
		var stderr bytes.Buffer
		code := run(append(path, "--no-such-flag"), stdio{strings.NewReader(""), io.Discard, &stderr})
		if code != exitUsage || !strings.Contains(stderr.String(), "--no-such-flag") || !strings.Contains(stderr.String(), "--help") {
			t.Errorf("%s --no-such-flag: exit code %d, says %q", cmd.CommandPath(), code, stderr.String())
		}
		for _, sub := range cmd.Commands() {
			if sub.Name() != "help" {
				visit(sub, append(append([]string(nil), path...), sub.Name()))
			}
		}
	}
	visit(newRoot(stdio{strings.NewReader(""), io.Discard, io.Discard}), nil)
}

// TestDuration guards that a duration has a unit and comes back as it is read.
func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"500ms": 500 * time.Millisecond, "5s": 5 * time.Second, "2m30s": 150 * time.Second, "2m": 2 * time.Minute,
		"1h": time.Hour, "90d": 90 * 24 * time.Hour, "0s": 0, "1h0m5s": time.Hour + 5*time.Second, "1.5s": 1500 * time.Millisecond,
	} {
		d, err := parseDuration(text)
		if err != nil || time.Duration(d) != want {
			t.Errorf("%s: %v, %v", text, d, err)
		}
		if again, err := parseDuration(d.String()); err != nil || again != d {
			t.Errorf("%s is written as %s", text, d)
		}
	}
	for _, text := range []string{"", "5", "0", "5 s", "-5s", "five", "d", "-1d", "99999999d", "1d2h", "5x", "9999999999h"} {
		if d, err := parseDuration(text); err == nil {
			t.Errorf("%q was read as %s", text, d)
		} else if !strings.Contains(err.Error(), "want a number with a unit") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestSchemaIsCurrent guards that the JSON Schemas that editors load are those
// of the types that the program reads.
func TestSchemaIsCurrent(t *testing.T) {
	for _, kind := range configKinds {
		path := filepath.Join("..", "..", "docs", "reference", kind+".schema.json")
		want, err := configSchema(kind)
		if err != nil {
			t.Fatal(err)
		}
		if *updateSchema {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not current (%v): go test ./cmd/signalbox -run TestSchemaIsCurrent -update-schema", path, err)
		}
	}
}

// TestSchemaDefaults guards that the documented defaults are those that the
// constructors hold.
func TestSchemaDefaults(t *testing.T) {
	for _, v := range []any{*newGatewayConfig(), *newAgentConfig(), newServiceConfig(), newInstanceConfig(), newListenerConfig()} {
		checkDefaults(t, reflect.ValueOf(v))
	}
}

func checkDefaults(t *testing.T, v reflect.Value) {
	t.Helper()
	for _, f := range yamlFields(v.Type()) {
		value := v.FieldByIndex(f.Index)
		if f.Tag.Get("doc") == "" {
			t.Errorf("%s.%s: has no doc", v.Type(), f.Name)
		}
		if def, ok := f.Tag.Lookup("default"); ok && fmt.Sprint(value.Interface()) != def {
			t.Errorf("%s.%s: documented default %s, it is %v", v.Type(), f.Name, def, value)
		}
		if value.Kind() == reflect.Struct {
			checkDefaults(t, value)
		}
	}
}

// FuzzDecodeConfig guards that no file makes the reader panic, and that every
// error says where.
func FuzzDecodeConfig(f *testing.F) {
	for _, start := range [][]byte{startGateway, startAgent, startCluster, []byte("a: &x [*x]\n"), []byte("services: [{}]\n"), []byte("? {a: b}\n: c\n"), []byte("<<: {bundle: x}\n")} {
		f.Add(start)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, cfg := range []checkable{newGatewayConfig(), newAgentConfig(), &ClusterConfig{}} {
			if err := decodeYAML("x.yaml", data, cfg); err != nil && (exitCode(err) != exitUsage || !strings.HasPrefix(err.Error(), "x.yaml:")) {
				t.Errorf("got %v", err)
			}
		}
		guessKind("x.yaml", data)
	})
}

// Rule: status says what the gateway that was asked waits for, and what to do.
func TestMissingText(t *testing.T) {
	var out strings.Builder
	h := api.Health{Gateway: "gw-east-1", Checks: []api.Check{
		{Name: "log", Detail: "the log is empty", Do: "start all gateways once"}, {Name: "peer-gw-west-1", OK: true, Detail: "fine"},
	}}
	if err := missingText(&out, &h); err != nil || out.String() != "gateway gw-east-1: the log is empty; start all gateways once\n" {
		t.Errorf("%v, %q", err, out.String())
	}
}
