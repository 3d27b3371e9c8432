// Package peers runs what people use today to move traffic from one data center to another, so that `make bench` can
// measure it beside Signalbox: HAProxy with a map, a two-command HAProxy script, and plain Envoy with a route flip.
//
// It guarantees that Switch returns only when every proxy has confirmed the new configuration, that everything listens
// on loopback, and that Close ends the processes it started (by pid) and removes their files. It does not make the
// peers safe: none of them waits for the old side, holds requests or proves anything. That is what is compared.
package peers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
)

// East and West are the names that Switch takes. Every peer starts with East as master.
const (
	East = "east"
	West = "west"
)

// ErrUnknownDataCenter is returned by Switch when the name is neither East nor West.
var ErrUnknownDataCenter = errors.New("unknown data center")

// Peer is one running set of proxies.
type Peer interface {
	// Switch sends new requests to the data center. It returns when every proxy has confirmed it, or with the first
	// errors; then it is unknown which proxies have switched. It must not be called concurrently.
	Switch(ctx context.Context, to string) error
	// Targets returns one base URL for each proxy, to send load to.
	Targets() []string
	// Close ends the processes and removes their files. It waits for them.
	Close() error
}

// Options say what to start. The zero value of Ports starts one proxy.
type Options struct {
	Ports   []int    // one proxy (a process) for each; 0 lets the kernel choose
	East    []string // base URLs of the instances in east, http://host:port
	West    []string // the same in west
	Dir     string   // where the temporary folder goes; empty means the system's. HAProxy's socket needs a short path.
	Workers int      // threads of each proxy; 0 means 1
}

// Kind is a peer that can be started.
type Kind struct {
	Name  string // as in the benchmark's table
	About string // what its switch does, in one line
	// Start returns when all proxies serve East. ctx bounds the start only.
	Start func(ctx context.Context, o Options) (Peer, error)
}

// All returns the peers in the order of the benchmark's table.
func All() []Kind {
	return []Kind{
		{"haproxy-map", "one `set map` through the runtime socket", startMap},
		{"haproxy-script-disable-first", "disable the old servers, then enable the new: a gap without any server", startDisableFirst},
		{"haproxy-script-enable-first", "enable the new servers, then disable the old: a moment with two masters", startEnableFirst},
		{"envoy-rds", "a new route configuration by rename into a watched file", startEnvoy},
	}
}

// prepared are options that were checked, with a folder of their own.
type prepared struct {
	Options
	addresses map[string][]string // host:port of the instances by data center
	dir       string
}

func (o Options) prepare() (prepared, error) {
	if len(o.Ports) == 0 {
		o.Ports = []int{0}
	}
	if o.Workers == 0 {
		o.Workers = 1
	}
	p := prepared{Options: o, addresses: make(map[string][]string)}
	for dc, urls := range map[string][]string{East: o.East, West: o.West} {
		for _, raw := range urls {
			u, err := url.Parse(raw)
			if err != nil || u.Scheme != "http" || u.Port() == "" {
				return p, fmt.Errorf("read backend of %s: %q is not http://host:port", dc, raw)
			}
			p.addresses[dc] = append(p.addresses[dc], u.Host)
		}
		if len(p.addresses[dc]) == 0 {
			return p, fmt.Errorf("read backends: %s has none", dc)
		}
	}
	dir, err := os.MkdirTemp(o.Dir, "peer-")
	if err != nil {
		return p, fmt.Errorf("make folder: %w", err)
	}
	p.dir = dir
	return p, nil
}

// proxy is one process of a peer.
type proxy interface {
	url() string
	turn(ctx context.Context, to string) error
	stop() error
}

// fleet is a Peer made of proxies of one kind.
type fleet struct {
	dir     string
	proxies []proxy
}

// startFleet starts one proxy for each port, and none when one of them fails.
func startFleet(ctx context.Context, o Options, one func(ctx context.Context, p prepared, index int) (proxy, error)) (Peer, error) {
	p, err := o.prepare()
	if err != nil {
		return nil, err
	}
	f := &fleet{dir: p.dir}
	for i := range p.Ports {
		started, err := one(ctx, p, i)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		f.proxies = append(f.proxies, started)
	}
	return f, nil
}

// Targets implements Peer.
func (f *fleet) Targets() []string {
	var out []string
	for _, p := range f.proxies {
		out = append(out, p.url())
	}
	return out
}

// Switch implements Peer: all proxies at once.
func (f *fleet) Switch(ctx context.Context, to string) error {
	if to != East && to != West {
		return fmt.Errorf("switch to %q: %w", to, ErrUnknownDataCenter)
	}
	errs := make([]error, len(f.proxies))
	var all sync.WaitGroup
	for i, p := range f.proxies {
		all.Go(func() { errs[i] = p.turn(ctx, to) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Close implements Peer.
func (f *fleet) Close() error {
	var errs []error
	for _, p := range f.proxies {
		errs = append(errs, p.stop())
	}
	errs = append(errs, os.RemoveAll(f.dir))
	return errors.Join(errs...)
}

// other is the data center that is not dc.
func other(dc string) string {
	if dc == East {
		return West
	}
	return East
}
