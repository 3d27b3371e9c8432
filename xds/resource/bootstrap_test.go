package resource

import (
	"encoding/json"
	"errors"
	"testing"
)

func options() BootstrapOptions {
	return BootstrapOptions{
		Cluster: "acme", DataCenter: "east", Name: "envoy-1",
		Gateways: []string{"10.0.0.1:7001", "[2001:db8::1]:7001"}, AdminAddress: "127.0.0.1", AdminPort: 9901,
		CertFile: "/etc/signalbox/proxy.pem", KeyFile: "/etc/signalbox/proxy.key", CAFile: "/etc/signalbox/ca.pem",
	}
}

func TestBootstrapGoldens(t *testing.T) {
	named := options()
	named.Gateways = []string{"gateway-1.east:7001", "10.0.0.2:7001"}
	named.AdminPort = 0
	for name, f := range map[string]func() ([]byte, error){
		"bootstrap":            func() ([]byte, error) { return Bootstrap(options()) },
		"bootstrap-names":      func() ([]byte, error) { return Bootstrap(named) },
		"bootstrap-route-only": func() ([]byte, error) { return RouteOnly(options(), "orders", HTTP, 0) },
		"bootstrap-tcp-only":   func() ([]byte, error) { return RouteOnly(options(), "orders", TCP, 0) },
		"bootstrap-grpc":       func() ([]byte, error) { return BootstrapGRPC(options()) },
	} {
		t.Run(name, func(t *testing.T) {
			b, err := f()
			if err != nil {
				t.Fatal(err)
			}
			if !json.Valid(b) {
				t.Fatalf("not JSON: %s", b)
			}
			golden(t, name+".json", b)
		})
	}
}

func TestBootstrapRefuses(t *testing.T) {
	for name, change := range map[string]func(*BootstrapOptions){
		"no gateway":    func(o *BootstrapOptions) { o.Gateways = nil },
		"no port":       func(o *BootstrapOptions) { o.Gateways = []string{"10.0.0.1"} },
		"bad port":      func(o *BootstrapOptions) { o.Gateways = []string{"10.0.0.1:99999"} },
		"port suffix":   func(o *BootstrapOptions) { o.Gateways = []string{"10.0.0.1:70x"} },
		"half a pair":   func(o *BootstrapOptions) { o.KeyFile = "" },
		"bad name":      func(o *BootstrapOptions) { o.Name = "a/b" },
		"admin by name": func(o *BootstrapOptions) { o.AdminAddress = "localhost" },
	} {
		o := options()
		change(&o)
		if _, err := Bootstrap(o); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
		if _, err := BootstrapGRPC(o); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s (grpc): %v, want ErrInvalid", name, err)
		}
	}
}
