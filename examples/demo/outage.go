package demo

import (
	"errors"
	"sync"
	"syscall"

	"github.com/signalbox-io/signalbox/examples/load"
)

// ProcessesIn are the names of all that Start started in a data center: gateways, instances, agents and Envoys.
func (s *Site) ProcessesIn(dc string) (names []string) {
	for _, g := range s.gateways {
		if g.DataCenter == dc {
			names = append(names, g.Name)
		}
	}
	for _, in := range s.instances {
		if in.DataCenter != dc {
			continue
		}
		names = append(names, in.Name)
		if in.Agent != "" {
			names = append(names, in.Agent)
		}
	}
	for _, e := range s.envoys {
		if e.DataCenter == dc {
			names = append(names, e.Name)
		}
	}
	return names
}

// DownAll kills everything in a data center at once (SIGKILL) and keeps it down until UpAll. It returns when all of it is
// gone, with the time just before the first signal (load.Now).
func (s *Site) DownAll(dc string) (at int64, err error) {
	names := s.ProcessesIn(dc)
	errs := make([]error, len(names))
	var all sync.WaitGroup
	at = load.Now()
	for i, name := range names {
		all.Go(func() { errs[i] = s.Down(name, syscall.SIGKILL) })
	}
	all.Wait()
	return at, errors.Join(errs...)
}

// UpAll starts again what DownAll ended.
func (s *Site) UpAll(dc string) error {
	var errs []error
	for _, name := range s.ProcessesIn(dc) {
		errs = append(errs, s.Up(name))
	}
	return errors.Join(errs...)
}

// Through has a load use the Envoys of one data center only.
func (s *Site) Through(dc string) func(*load.Config) {
	return func(c *load.Config) {
		c.Targets = nil
		for _, e := range s.envoys {
			if e.DataCenter == dc {
				c.Targets = append(c.Targets, load.Target{Name: e.Name, URL: "http://" + e.Listener})
			}
		}
	}
}

// GatewayIn is the name of a data center's first gateway, "" when it has none.
func (s *Site) GatewayIn(dc string) string {
	for _, g := range s.gateways {
		if g.DataCenter == dc {
			return g.Name
		}
	}
	return ""
}
