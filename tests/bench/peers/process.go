package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	startLimit = time.Minute      // for one proxy to serve, on a machine that does much else
	stopLimit  = 3 * time.Second  // after SIGTERM, before SIGKILL
	askAgain   = time.Millisecond // between two questions whether a proxy is ready or has switched
	logTail    = 4096             // bytes of a process's output that an error shows
	dialLimit  = 30 * time.Second // for the runtime socket and the admin interface
)

// process is a child with its output in a file.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the child has ended and was reaped
}

// startProcess runs the command with its output in dir/name.log. The child dies with this process.
func startProcess(dir, name string, cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(p.done)
	}()
	return p, nil
}

// until asks again until ready says nil. It gives up when ctx ends, the start limit is over or the process is gone.
func (p *process) until(ctx context.Context, what string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w\n%s", what, errors.Join(ctx.Err(), err), p.tail())
		case <-p.done:
			return fmt.Errorf("wait for %s: %s ended: %s\n%s", what, p.cmd.Path, p.cmd.ProcessState, p.tail())
		}
	}
}

func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-logTail):])
}

// stop ends the child by its pid: first asked, then made to.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.cmd.Path, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopLimit):
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.cmd.Path, err)
	}
	<-p.done
	return nil
}

// listen opens a loopback listener and returns it as a file that a child can inherit, and its address. The port is never
// free in between, so nobody else can take it.
func listen(port int) (*os.File, string, error) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return nil, "", fmt.Errorf("listen: %w", err)
	}
	defer l.Close()
	file, err := l.File()
	if err != nil {
		return nil, "", fmt.Errorf("duplicate listener: %w", err)
	}
	return file, l.Addr().String(), nil
}
