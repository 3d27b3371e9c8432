package demo

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/signalbox-io/signalbox/rpc/ports"
)

// Rule: what a site writes for its Envoys is accepted by the real one.
func TestBootstrapIsValid(t *testing.T) {
	envoy, err := FindEnvoy()
	if err != nil {
		t.Fatal(err)
	}
	p, err := ports.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	opts, err := Options{Envoys: 1, Instances: 1, Gateways: 2}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	s := &Site{opts: opts, dir: filepath.Join(t.TempDir(), "site")}
	if s.layout, err = lay(opts, s.dir, p); err != nil {
		t.Fatal(err)
	}
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	for _, e := range s.envoys {
		if out, err := exec.Command(envoy, "--mode", "validate", "--config-path", s.configPath(e.Name+".json")).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", e.Name, err, out)
		}
	}
	for _, g := range s.gateways {
		if _, err := os.Stat(s.configPath(g.Name + ".yaml")); err != nil {
			t.Error(err)
		}
	}
}
