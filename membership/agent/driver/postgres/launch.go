package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// Launcher starts servers: directly, or under a warden that ends them when their
// lease does.
type Launcher interface {
	// Launch starts a server and returns when its process is there; it does not
	// wait until the server accepts sessions. The server outlives ctx. The
	// channel is closed when the process has ended.
	Launch(ctx context.Context, s Launch) (ended <-chan struct{}, err error)
}

// Launch is a server to start.
type Launch struct {
	Path string
	Args []string
	Env  []string
	As   *syscall.Credential // nil: as this process
	Log  string              // file that its output is appended to
	// Lease, where there is one, is until when the server may run.
	Lease driver.LeaseOrder
}

// directly starts servers as children of this process that outlive it.
type directly struct{}

// Launch implements Launcher.
func (directly) Launch(_ context.Context, l Launch) (<-chan struct{}, error) {
	log, err := os.OpenFile(l.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(l.Path, l.Args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = l.Env, "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: l.As, Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended stands in its log
	}()
	return ended, nil
}
