package warden

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/signalbox-io/signalbox"
)

// spawnWait bounds how long a new warden may take to listen.
const spawnWait = 10 * time.Second

// A Client talks to the warden of a directory, and starts one where none lives.
// Safe for concurrent use.
type Client struct {
	dir  string
	self []string

	mu sync.Mutex // one spawn at a time
}

// New returns a client for the warden of dir, which must be the instance's own
// directory. It starts nothing yet. self is the command that runs Run for a
// directory added as its last argument; nil: `signalbox warden`, this program.
func New(dir string, self []string) (*Client, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make warden's directory: %w", err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("make warden's directory: %w", err)
	}
	if self == nil {
		self = []string{"/proc/self/exe", "warden"} // also when the file was replaced meanwhile
	}
	return &Client{dir: dir, self: self}, nil
}

// State says how the service is. Where no warden lives, a new one is started,
// which takes over what it finds.
func (c *Client) State(ctx context.Context) (State, error) { return c.call(ctx, request{Op: opState}) }

// Start starts the service; ErrRunning when one runs.
func (c *Client) Start(ctx context.Context, s Spec) (State, error) {
	if err := s.check(); err != nil {
		return State{}, fmt.Errorf("start service: %w", err)
	}
	return c.call(ctx, request{Op: opStart, Spec: &s})
}

// Signal sends the main process a signal; ErrNotRunning when it has ended.
func (c *Client) Signal(ctx context.Context, s syscall.Signal) error {
	_, err := c.call(ctx, request{Op: opSignal, Signal: int(s)})
	return err
}

// Stop sends the main process a signal and waits until everything of the service
// has ended. What is there after the timeout is killed. why is kept in
// State.Killed then. Stopping what has ended is no error.
func (c *Client) Stop(ctx context.Context, s syscall.Signal, timeout time.Duration, why string) (State, error) {
	return c.call(ctx, request{Op: opStop, Signal: int(s), Timeout: timeout, Why: why})
}

// Wait returns when nothing of the run is there any more ("": of any run), or
// with ctx's error.
func (c *Client) Wait(ctx context.Context, run string) (State, error) {
	return c.call(ctx, request{Op: opWait, Run: run})
}

// Arm says until when the service may run, on driver.BootTime's clock: the
// service is killed then, a kill time earlier, unless Arm gives a later deadline
// before or Disarm none. An earlier deadline of the same term, and any of an
// earlier one, change nothing. ErrNotRunning when nothing runs.
func (c *Client) Arm(ctx context.Context, term signalbox.Term, deadline time.Duration) error {
	_, err := c.call(ctx, request{Op: opArm, Term: term, Deadline: deadline})
	return err
}

// Disarm lets the service run without a deadline.
func (c *Client) Disarm(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: opDisarm})
	return err
}

// Quit ends a warden that has nothing to watch; ErrRunning when it has.
func (c *Client) Quit(ctx context.Context) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil // nobody there
	}
	_, err = exchange(ctx, conn, request{Op: opQuit})
	return err
}

// maxTries is how often a request is sent to wardens that die over it.
const maxTries = 3

// call asks the warden; where none lives, one is started first. One that dies
// over a request that may be repeated is followed by the next.
func (c *Client) call(ctx context.Context, r request) (State, error) {
	for try := 1; ; try++ {
		conn, err := c.dial(ctx)
		if err != nil {
			if conn, err = c.spawn(ctx); err != nil {
				return State{}, err
			}
		}
		s, err := exchange(ctx, conn, r)
		if !errors.Is(err, errBroken) || ctx.Err() != nil || try == maxTries || r.Op == opStart || r.Op == opSignal {
			return s, err
		}
	}
}

// errBroken is returned when a warden hung up without an answer.
var errBroken = errors.New("the warden hung up")

// exchange sends one request and reads the answer.
func exchange(ctx context.Context, conn net.Conn, r request) (State, error) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(encode(r)); err != nil {
		return State{}, failed(ctx, r.Op, err)
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadBytes('\n')
	if err != nil {
		return State{}, failed(ctx, r.Op, err)
	}
	var a reply
	if err := json.Unmarshal(line, &a); err != nil {
		return State{}, fmt.Errorf("ask warden to %s: %w: %w", r.Op, signalbox.ErrInvalid, err)
	}
	return a.State, a.err()
}

func failed(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	} else {
		err = fmt.Errorf("%w: %w", errBroken, err)
	}
	return fmt.Errorf("ask warden to %s: %w", op, err)
}

// dial connects by way of the directory: a socket's path has 107 bytes at most,
// a state directory's may have more.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	dir, err := os.Open(c.dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var d net.Dialer
	return d.DialContext(ctx, "unix", socketIn(dir))
}

func socketIn(dir *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), socketName)
}

// spawn starts a warden in a session of its own and waits until it listens. It
// outlives this process.
func (c *Client) spawn(ctx context.Context) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, spawnWait)
	defer cancel()
	for {
		if conn, err := c.dial(ctx); err == nil {
			return conn, nil // somebody else did meanwhile
		}
		word, err := c.start(ctx)
		if err != nil {
			return nil, err
		}
		if word == readyWord {
			continue
		}
		select { // another one has the directory and does not listen yet, or no more
		case <-time.After(listenPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("reach warden: %w", ctx.Err())
		}
	}
}

// listenPause is the pause between two looks whether another warden listens.
const listenPause = 10 * time.Millisecond

// start starts a warden and returns what it says of itself.
func (c *Client) start(ctx context.Context) (string, error) {
	log, err := OpenOutput(filepath.Join(c.dir, logName), MaxLog)
	if err != nil {
		return "", fmt.Errorf("start warden: %w", err)
	}
	defer log.Close()
	hear, say, err := os.Pipe()
	if err != nil {
		return "", fmt.Errorf("start warden: %w", err)
	}
	defer hear.Close()
	cmd := exec.Command(c.self[0], append(c.self[1:len(c.self):len(c.self)], c.dir)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.Dir = log, log, []*os.File{say}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = append(os.Environ(), readyEnv+"=1")
	err = cmd.Start()
	_ = say.Close()
	if err != nil {
		return "", fmt.Errorf("start warden: %w", err)
	}
	go func() { _ = cmd.Wait() }() // ends with the warden
	deadline, _ := ctx.Deadline()
	_ = hear.SetReadDeadline(deadline)
	said, err := io.ReadAll(io.LimitReader(hear, maxRequest))
	text := strings.TrimSpace(string(bytes.ToValidUTF8(said, nil)))
	switch {
	case text == readyWord || text == takenWord:
		return text, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", fmt.Errorf("start warden: %w; see %s", context.DeadlineExceeded, filepath.Join(c.dir, logName))
	case text == "":
		text = "it ended before it listened"
	}
	return "", fmt.Errorf("start warden: %s; see %s", text, filepath.Join(c.dir, logName))
}

// What a new warden says when it listens, or when another one does already.
const (
	readyWord = "ready"
	takenWord = "taken"
)

// readyFD is where it says so, when readyEnv is set.
const (
	readyFD  = 3
	readyEnv = "SIGNALBOX_WARDEN_READY"
)
