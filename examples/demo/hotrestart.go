package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Envoy's own way to be restarted without a failed request: a second process of the next epoch takes over the listening
// sockets, and the first ends once its connections are drained.
const (
	drainSeconds  = 2
	parentSeconds = 6
	// handedOver is how long the old process may take to end after the new one serves.
	handedOver = (parentSeconds + 60) * time.Second
)

// envoyFlags are those of one restart epoch. The supervisor begins with 0 again after a death, for then no
// parent is left to take over from.
func (s *Site) envoyFlags(e Envoy, epoch int) []string {
	flags := []string{
		"--config-path", s.configPath(e.Name + ".json"), "--concurrency", strconv.Itoa(s.opts.Workers), "--log-level", "warning",
	}
	if !s.opts.HotRestart {
		return append(flags, "--disable-hot-restart")
	}
	return append(flags, "--base-id", baseID(e), "--restart-epoch", strconv.Itoa(epoch), "--drain-strategy", "immediate",
		"--drain-time-s", strconv.Itoa(drainSeconds), "--parent-shutdown-time-s", strconv.Itoa(parentSeconds))
}

// baseID keeps Envoys of one machine apart; a port is used by one of them only.
func baseID(e Envoy) string {
	_, port, _ := strings.Cut(e.Listener, ":")
	return port
}

func (s *Site) envoyCommand(e Envoy, epoch int) func() *exec.Cmd {
	return func() *exec.Cmd {
		at := epoch
		epoch = 0 // the next start is after a death
		return s.command(e.DataCenter, s.opts.Binaries.Envoy, s.envoyFlags(e, at)...)()
	}
}

// RestartEnvoy restarts an Envoy hot and returns when the new process serves and the old one has ended. It needs
// Options.HotRestart.
func (s *Site) RestartEnvoy(ctx context.Context, name string) error {
	old, err := s.process(name)
	if err != nil {
		return err
	}
	var envoy Envoy
	for _, e := range s.envoys {
		if e.Name == name {
			envoy = e
		}
	}
	if envoy.Name == "" || !s.opts.HotRestart {
		return fmt.Errorf("restart %s: it is no Envoy of a site with hot restart", name)
	}
	s.mu.Lock()
	s.epochs[name]++
	epoch := s.epochs[name]
	s.mu.Unlock()
	old.mu.Lock()
	old.stay = true // it ends by itself
	gone := old.gone
	old.mu.Unlock()
	if err := s.run(name, s.envoyCommand(envoy, epoch)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, handedOver)
	defer cancel()
	select {
	case <-gone:
	case <-ctx.Done():
		return fmt.Errorf("restart %s: the old process did not end: %w", name, ctx.Err())
	}
	old.close()
	return Await(ctx, name, func(ctx context.Context) error { return s.EnvoyReady(ctx, name) })
}

// removeShared removes what killed Envoys leave of their hot restart in shared memory.
func (s *Site) removeShared() {
	if !s.opts.HotRestart {
		return
	}
	for _, e := range s.envoys {
		os.Remove("/dev/shm/envoy_shared_memory_" + baseID(e) + "0")
	}
}

// Stop and Continue freeze a process and let it go on.
func (s *Site) Stop(name string) error { return s.Signal(name, syscall.SIGSTOP) }

// Continue lets a stopped process go on.
func (s *Site) Continue(name string) error { return s.Signal(name, syscall.SIGCONT) }
