package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// process is one supervised child: a goroutine of its own starts it, waits for it, and starts it again.
type process struct {
	name string
	log  string           // path of its output
	make func() *exec.Cmd // called for every start
	rest time.Duration    // between a death and the next start

	mu      sync.Mutex
	cmd     *exec.Cmd     // the running child; nil between two
	gone    chan struct{} // closed when cmd was reaped
	starts  int
	last    string // how the last one ended
	stay    bool   // do not start it again
	closing bool
	wake    chan struct{} // stay or closing changed, or no need to wait before the next start
	ended   chan struct{} // the goroutine is over
}

func newProcess(dir, name string, build func() *exec.Cmd) *process {
	return &process{
		name: name, log: filepath.Join(dir, name+".log"), make: build, rest: RestartAfter,
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

// start starts the child and its supervisor. An error is the first start's.
func (p *process) start() error {
	if err := p.spawn(); err != nil {
		close(p.ended)
		return err
	}
	go p.supervise()
	return nil
}

// spawn starts one child. It dies with this process, and has a process group of its own so that a terminal's Ctrl-C
// reaches the supervisor only.
func (p *process) spawn() error {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer out.Close()
	cmd := p.make()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing || p.stay {
		return nil // down came after the wait for this start was over
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.gone = cmd, make(chan struct{})
	p.starts++
	return nil
}

func (p *process) supervise() {
	defer close(p.ended)
	for {
		p.mu.Lock()
		cmd, gone := p.cmd, p.gone
		p.mu.Unlock()
		if cmd != nil {
			_ = cmd.Wait() // how it ended is kept below
			p.mu.Lock()
			p.cmd, p.last = nil, cmd.ProcessState.String()
			p.mu.Unlock()
			close(gone)
		}
		if !p.pause() {
			return
		}
		if err := p.spawn(); err != nil {
			p.mu.Lock()
			p.last = err.Error()
			p.mu.Unlock()
		}
	}
}

// pause waits until the child is to be started again; false when never.
func (p *process) pause() bool {
	timer := time.NewTimer(p.rest)
	defer timer.Stop()
	due := timer.C
	for {
		p.mu.Lock()
		stay, closing := p.stay, p.closing
		p.mu.Unlock()
		switch {
		case closing:
			return false
		case stay:
			due = nil
		case due == nil:
			return true
		}
		select {
		case <-due:
			due = nil // looks at stay once more
		case <-p.wake:
			if due != nil {
				return !p.isClosing()
			}
		}
	}
}

func (p *process) isClosing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closing
}

func (p *process) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// errNotRunning is returned when a process that should get a signal is between two starts.
var errNotRunning = errors.New("process is not running")

// signal sends to the running child, by its pid only.
func (p *process) signal(sig syscall.Signal) (gone <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil, fmt.Errorf("signal %s: %w", p.name, errNotRunning)
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return nil, fmt.Errorf("signal %s: %w", p.name, err)
	}
	return p.gone, nil
}

// down ends the child and keeps it so until up.
func (p *process) down(sig syscall.Signal) error {
	p.mu.Lock()
	p.stay = true
	p.mu.Unlock()
	return p.end(context.Background(), sig, stopWithin)
}

func (p *process) up() {
	p.mu.Lock()
	p.stay = false
	p.mu.Unlock()
	p.poke()
}

// end sends a signal, and SIGKILL when the child is not gone within the bound.
func (p *process) end(ctx context.Context, sig syscall.Signal, within time.Duration) error {
	gone, err := p.signal(sig)
	if errors.Is(err, errNotRunning) || errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	if _, err := p.signal(syscall.SIGKILL); err != nil && !errors.Is(err, errNotRunning) {
		return err
	}
	<-gone
	return fmt.Errorf("end %s: it did not within %s after %s and was killed", p.name, within, sig)
}

// restart ends the child in order and starts it again at once.
func (p *process) restart(ctx context.Context, within time.Duration) error {
	err := p.end(ctx, syscall.SIGTERM, within)
	p.poke()
	return err
}

// close ends the child for good.
func (p *process) close() {
	p.mu.Lock()
	p.closing = true
	cmd := p.cmd
	p.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Kill() // it may be gone already
	}
	p.poke()
	<-p.ended
}

// state says how many times it was started, whether it runs, and how it ended last.
func (p *process) state() (starts int, running bool, last string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.starts, p.cmd != nil, p.last
}

// pid is the running child's; 0 when none runs.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-logTail):])
}
