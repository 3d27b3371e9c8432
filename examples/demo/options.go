package demo

import (
	"errors"
	"fmt"
	"time"
)

// Options say what a site consists of. Zero fields take the defaults.
type Options struct {
	Binaries Binaries
	// Dir is the site's folder; it must not exist or be empty. Empty: a temporary folder, which Close removes unless
	// Keep is set.
	Dir  string
	Keep bool

	// Per data center: Envoys (default 2), gateways (2) and instances (3).
	Envoys, Gateways, Instances int
	// North adds a third data center with one gateway and nothing else, and has three voters: the first gateway of each
	// data center. Without it the first gateway of east is the only voter.
	North bool
	// NorthGateways is how many gateways north has, default 1.
	NorthGateways int
	// Voters is how many gateways vote, taken from the data centers in turn; 0 is what is said at North.
	Voters int
	// Places are the data centers that have a network of their own; all others are on 127.0.0.1.
	Places map[string]Place
	// States are folders for the state of some processes, by name, in place of the site's own.
	States map[string]string
	// Empty leaves out the example's instances and Envoys: gateways only, for services that are added.
	Empty bool
	// Protocol of the example service: http (the default) or http2.
	Protocol string
	// Services are configured beside the example service, unmanaged: 0 by default.
	Services int
	// More are services with a protocol or a listener of their own, configured beside the others.
	More []MoreService
	// Drivers of the instances by data center; default: the Go library in east, HTTP in west.
	Drivers map[string]string

	// HoldBudget of the service; 0 is the gateway's default.
	HoldBudget time.Duration
	// Failover is the service's failover in the gateways' configuration, YAML in one line; empty for the default.
	Failover string
	// Workers are the threads of one Envoy, default 1.
	Workers int
	// HotRestart lets RestartEnvoy work. It leaves no room for two sites whose Envoys use the same ports at once.
	HotRestart bool
	// Bare runs Envoys and instances only, all of them with the HTTP driver and without TLS, following this xDS address
	// in both data centers: what benchmarks compare with. There are no gateways, agents, keys or API then.
	Bare string
	// LogLevel of gateways and agents, default info.
	LogLevel string
	// Notice is told what is being done, one line each; may be nil.
	Notice func(line string)
}

// Place is where the processes of a data center run.
type Place struct {
	Host string // the address of all of them, reachable from here
	// Enter is what their commands are given to: a program, with its arguments, that becomes the command in that network,
	// under the same process id.
	Enter []string
}

// MoreService is one service as the gateways' configuration has it.
type MoreService struct {
	Name     string
	Protocol string // http, http2, grpc or tcp
	Port     int    // of the listener on 127.0.0.1 that the gateways hand out; 0 for none
	// Listen has the gateways hand out a listener on a port that the site picks; see Site.ListenerOf.
	Listen bool
	// HoldBudget of the service; 0 is the gateway's default.
	HoldBudget time.Duration
	// Singleton has one instance of the master data center serve.
	Singleton bool
	// Failover is the service's failover in the gateways' configuration, YAML in one line; empty for the default.
	Failover string
}

// Maxima of Options: a site is for one machine.
const (
	MaxEnvoys    = 32
	MaxGateways  = 4
	MaxInstances = 16
	MaxServices  = 5000
)

func (o Options) withDefaults() (Options, error) {
	for _, f := range []struct {
		name        string
		value       *int
		usual, most int
	}{
		{"envoys", &o.Envoys, 2, MaxEnvoys}, {"gateways", &o.Gateways, 2, MaxGateways},
		{"gateways in north", &o.NorthGateways, 1, MaxGateways}, {"voters", &o.Voters, 0, 3 * MaxGateways},
		{"instances", &o.Instances, 3, MaxInstances}, {"services", &o.Services, 0, MaxServices}, {"workers", &o.Workers, 1, 64},
	} {
		if *f.value == 0 {
			*f.value = f.usual
		}
		if *f.value < 0 || *f.value > f.most {
			return o, fmt.Errorf("%d %s: want at most %d", *f.value, f.name, f.most)
		}
	}
	if o.Empty {
		o.Envoys, o.Instances = 0, 0
	}
	if o.North && o.Bare != "" {
		return o, errors.New("a bare site has no gateways, so none in north")
	}
	drivers := map[string]string{East: DriverLibrary, West: DriverHTTP}
	for dc, driver := range o.Drivers {
		if driver != DriverHTTP && driver != DriverLibrary {
			return o, fmt.Errorf("driver %q of %s: want %s or %s", driver, dc, DriverHTTP, DriverLibrary)
		}
		drivers[dc] = driver
	}
	if o.Bare != "" {
		drivers = map[string]string{East: DriverHTTP, West: DriverHTTP}
	}
	o.Drivers = drivers
	if o.Protocol == "" {
		o.Protocol = "http"
	}
	if o.LogLevel == "" {
		o.LogLevel = "info"
	}
	if o.Notice == nil {
		o.Notice = func(string) {}
	}
	return o, nil
}
