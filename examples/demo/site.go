package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/rpc/ports"
	"github.com/signalbox-io/signalbox/tests/oracle"
)

// A Site is two data centers that run. Its methods are safe for concurrent use.
type Site struct {
	layout
	opts   Options
	dir    string
	ports  *ports.Block
	keys   *identity.Authority
	client *client.Client
	// clients speak to one gateway each.
	clients map[string]*client.Client

	mu        sync.Mutex
	processes map[string]*process
	order     []string
	epochs    map[string]int // of Envoys that were restarted hot
	all       []*process     // also those that were replaced
	adopted   []oracle.Certified
	once      sync.Once
}

// Start makes keys and configuration, starts everything and returns when all gateways and Envoys are ready and every
// instance is known; nothing is adopted yet. ctx bounds the start only. After an error nothing is left running.
func Start(ctx context.Context, opts Options) (*Site, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("start site: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, StartWithin)
	defer cancel()
	s := &Site{opts: opts, processes: map[string]*process{}, epochs: map[string]int{}}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start site: %w", err), s.Close())
	}
	return s, nil
}

func (s *Site) start(ctx context.Context) error {
	if err := s.makeDir(); err != nil {
		return err
	}
	var err error
	if s.ports, err = ports.Take(); err != nil {
		return err
	}
	if s.layout, err = lay(s.opts, s.dir, s.ports); err != nil {
		return err
	}
	if s.opts.Bare != "" {
		err = s.prepareBare()
	} else {
		s.opts.Notice("making keys and certificates")
		err = s.prepare()
	}
	if err != nil {
		return err
	}
	s.opts.Notice(fmt.Sprintf("starting %d gateways, %d instances with their agents and %d Envoys in %s and %s",
		len(s.gateways), len(s.instances), len(s.envoys), East, West))
	for name, build := range s.commands() {
		if err := s.run(name, build); err != nil {
			return err
		}
	}
	return s.awaitStarted(ctx)
}

func (s *Site) makeDir() (err error) {
	if s.opts.Dir == "" {
		s.dir, err = os.MkdirTemp("", "signalbox-demo-")
		return err
	}
	if s.dir, err = filepath.Abs(s.opts.Dir); err != nil {
		return err
	}
	if entries, err := os.ReadDir(s.dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("folder %s is not empty: name another", s.dir)
	}
	return os.MkdirAll(s.dir, 0o700)
}

// commands yields what to run, in the order of starting.
func (s *Site) commands() func(yield func(string, func() *exec.Cmd) bool) {
	return func(yield func(string, func() *exec.Cmd) bool) {
		for _, g := range s.gateways {
			if !yield(g.Name, s.command(g.DataCenter, s.opts.Binaries.Signalbox, "gateway", "run", "--config", s.configPath(g.Name+".yaml"))) {
				return
			}
		}
		for _, in := range s.instances {
			if !yield(in.Name, s.command(in.DataCenter, s.opts.Binaries.Orders, s.instanceFlags(in)...)) {
				return
			}
			if in.Agent != "" && s.opts.Bare == "" && !yield(in.Agent, s.command(in.DataCenter, s.opts.Binaries.Signalbox, "agent", "run", "--config", s.configPath(in.Agent+".yaml"))) {
				return
			}
		}
		for _, e := range s.envoys {
			if !yield(e.Name, s.envoyCommand(e, 0)) {
				return
			}
		}
	}
}

// command runs a program in a data center's network; an empty one is this process's.
func (s *Site) command(dc, path string, args ...string) func() *exec.Cmd {
	if enter := s.opts.Places[dc].Enter; len(enter) > 0 {
		all := slices.Concat(enter, []string{path}, args)
		path, args = all[0], all[1:]
	}
	return func() *exec.Cmd {
		cmd := exec.Command(path, args...)
		cmd.Dir = s.dir
		return cmd
	}
}

func (s *Site) instanceFlags(in Instance) []string {
	flags := []string{
		"--listen", in.Address, "--driver", in.Driver, "--service", Service, "--instance", in.Name,
		"--data-center", in.DataCenter, "--write-log", in.WriteLog, "--leave-within", "30s",
	}
	if in.Driver == DriverHTTP {
		return append(flags, "--control", in.Control)
	}
	return append(flags, "--bundle", s.Bundle(rpc.RoleAgent, in.DataCenter, in.Name), "--state", s.statePath(in.Name), "--gossip", in.Gossip)
}

// run starts one process under a name and supervises it.
func (s *Site) run(name string, build func() *exec.Cmd) error {
	p := newProcess(filepath.Join(s.dir, dirLogs), name, build)
	if err := p.start(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, replaced := s.processes[name]; !replaced {
		s.order = append(s.order, name)
	}
	s.processes[name] = p
	s.all = append(s.all, p)
	return nil
}

// Close ends all processes and removes the folder, unless it is kept. Only the first call does anything.
func (s *Site) Close() (err error) {
	s.once.Do(func() {
		if s.client != nil {
			s.client.Close()
		}
		for _, c := range s.clients {
			c.Close()
		}
		s.mu.Lock()
		all, keep := slices.Clone(s.all), s.opts.Keep || s.opts.Dir != ""
		s.mu.Unlock()
		var closing sync.WaitGroup
		for _, p := range all {
			closing.Go(p.close)
		}
		closing.Wait()
		s.removeShared()
		if s.ports != nil {
			s.ports.Close()
		}
		if s.dir != "" && !keep {
			err = os.RemoveAll(s.dir)
		}
	})
	return err
}

// Keep makes Close leave the site's folder.
func (s *Site) Keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts.Keep = true
}

// Dir is the site's folder: keys, configuration, state, logs and the instances' write logs.
func (s *Site) Dir() string { return s.dir }

// Instances, Envoys and Gateways are who runs, those of east first.
func (s *Site) Instances() []Instance { return s.instances }

// Envoys returns the proxies.
func (s *Site) Envoys() []Envoy { return s.envoys }

// Gateways returns the gateways.
func (s *Site) Gateways() []Gateway { return s.gateways }

// Processes are the names that Kill and its like take, in the order of starting.
func (s *Site) Processes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.order)
}

func (s *Site) process(name string) (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.processes[name]
	if !ok {
		return nil, fmt.Errorf("no process %q in this site", name)
	}
	return p, nil
}

// Kill ends a process as a crash would (SIGKILL). Its supervisor starts it again after RestartAfter.
func (s *Site) Kill(name string) error { return s.Signal(name, syscall.SIGKILL) }

// Signal sends a signal to the process of this name, SIGSTOP and SIGCONT for example.
func (s *Site) Signal(name string, sig syscall.Signal) error {
	p, err := s.process(name)
	if err != nil {
		return err
	}
	_, err = p.signal(sig)
	return err
}

// Down ends a process with a signal and keeps it down until Up.
func (s *Site) Down(name string, sig syscall.Signal) error {
	p, err := s.process(name)
	if err != nil {
		return err
	}
	return p.down(sig)
}

// Up starts a process that Down ended.
func (s *Site) Up(name string) error {
	p, err := s.process(name)
	if err == nil {
		p.up()
	}
	return err
}

// Restart ends a process in order (SIGTERM) and starts it again at once. It fails when it was not gone in time.
func (s *Site) Restart(ctx context.Context, name string, within time.Duration) error {
	p, err := s.process(name)
	if err != nil {
		return err
	}
	return p.restart(ctx, within)
}

// Pid is a process's id, 0 while it is down.
func (s *Site) Pid(name string) int {
	p, err := s.process(name)
	if err != nil {
		return 0
	}
	return p.pid()
}

// Starts is how often a process was started.
func (s *Site) Starts(name string) int {
	p, err := s.process(name)
	if err != nil {
		return 0
	}
	starts, _, _ := p.state()
	return starts
}

// LogTail is the end of a process's output.
func (s *Site) LogTail(name string) string {
	p, err := s.process(name)
	if err != nil {
		return ""
	}
	return p.tail()
}

// WriteLogs are the paths of the instances' write logs that are there.
func (s *Site) WriteLogs() (paths []string) {
	for _, in := range s.instances {
		if _, err := os.Stat(in.WriteLog); err == nil {
			paths = append(paths, in.WriteLog)
		}
	}
	return paths
}
