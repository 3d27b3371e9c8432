package warden

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/signalbox-io/signalbox"
)

const (
	// callTimeout bounds reading one request and writing its answer.
	callTimeout = 5 * time.Second
	// idleExit is how long a warden with nothing to watch waits for a request.
	idleExit = time.Minute
	// lookEvery is how often the output's size and the idleness are looked at.
	lookEvery = 10 * time.Second
	// endTimeout is how long a service may take to end when the warden is told to
	// end (SIGTERM: the machine is shut down).
	endTimeout = 20 * time.Second
)

// Run is the warden of a directory: it returns when it was told to quit, or when
// it has had nothing to watch for a minute.
func Run(dir string) error {
	var say *os.File
	if os.Getenv(readyEnv) != "" {
		unix.CloseOnExec(readyFD)
		say = os.NewFile(readyFD, "ready")
		_ = os.Unsetenv(readyEnv) // fails for an invalid name only
	}
	tell := func(word string) {
		if say != nil {
			_, _ = io.WriteString(say, word) // nobody listens: nobody needs it
			_ = say.Close()
		}
	}
	heir := os.Getenv(heirEnv) != ""
	_ = os.Unsetenv(heirEnv) // fails for an invalid name only
	w, err := open(dir, heir)
	if errors.Is(err, errTaken) {
		tell(takenWord)
		return nil
	}
	if err != nil {
		tell(err.Error())
		return err
	}
	defer w.close()
	tell(readyWord)
	return w.run()
}

// errTaken is returned when another warden has the directory.
var errTaken = errors.New("another warden has the directory")

// open takes the directory, takes over what an earlier warden left, and listens.
// An heir waits until the directory is free.
func open(dir string, heir bool) (*warden, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become subreaper: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock directory: %w", err)
	}
	if err := take(lock, heir); err != nil {
		_ = lock.Close() // it holds nothing
		return nil, errTaken
	}
	w := &warden{
		dir: dir, lock: lock, group: newGroup(dir), changed: make(chan struct{}), heard: time.Now(),
		quit: make(chan struct{}), forks: make(chan fork),
	}
	if w.timer, err = newTimer(); err != nil {
		return nil, err
	}
	go w.forker()
	if err := w.takeOver(); err != nil {
		return nil, err
	}
	_ = os.Remove(filepath.Join(dir, socketName)) // of a warden that has died: the lock is ours
	old := unix.Umask(0o177)
	w.listener, err = net.Listen("unix", socketIn(d))
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	w.listener.(*net.UnixListener).SetUnlinkOnClose(false) // its path is of this process only
	return w, d.Close()
}

func (w *warden) close() {
	w.disinherit()
	_ = w.listener.Close()
	_ = os.Remove(filepath.Join(w.dir, socketName))
	_ = w.lock.Close() // the lock goes with it
}

func (w *warden) run() error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGCHLD, unix.SIGTERM, unix.SIGINT)
	signal.Ignore(unix.SIGHUP, unix.SIGPIPE)
	go w.accept()
	go w.watchTimer()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	w.reap()
	for {
		select {
		case s := <-signals:
			if s == unix.SIGCHLD {
				w.reap()
				continue
			}
			go func() { // the reaping goes on meanwhile
				w.stop(unix.SIGTERM, endTimeout, "the warden was told to end")
				w.end()
			}()
		case <-look.C:
			w.look()
		case <-w.quit:
			return nil
		}
	}
}

// look cuts the output, and ends a warden that nobody needs.
func (w *warden) look() {
	w.mu.Lock()
	c, idle := w.child, time.Since(w.heard) > idleExit
	w.mu.Unlock()
	if c != nil && c.spec.Output != "" {
		if err := rotate(c.spec.Output, MaxOutput); err != nil {
			fmt.Fprintln(os.Stderr, "warden:", err)
		}
	}
	if idle && !w.state().Running {
		w.end()
	}
}

func (w *warden) end() { w.once.Do(func() { close(w.quit) }) }

func (w *warden) accept() {
	calls := make(chan struct{}, maxCalls)
	for {
		conn, err := w.listener.Accept()
		if err != nil {
			return // closed at the end
		}
		select {
		case calls <- struct{}{}:
			go func() { // ends with the request, or the caller
				defer func() { <-calls }()
				w.serve(conn.(*net.UnixConn))
			}()
		default:
			_ = conn.Close()
		}
	}
}

// serve answers one request. Only the same user and root may ask.
func (w *warden) serve(conn *net.UnixConn) {
	defer conn.Close()
	if !allowed(conn) {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(callTimeout))
	line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadBytes('\n')
	var r request
	if err != nil || json.Unmarshal(line, &r) != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	w.mu.Lock()
	w.heard = time.Now()
	w.mu.Unlock()
	gone := make(chan struct{})
	go func() { // ends when the caller hangs up, or with conn
		defer close(gone)
		_, _ = conn.Read(make([]byte, 1))
	}()
	var a reply
	err = w.do(r, gone)
	a.fault(err)
	a.State = w.state()
	_ = conn.SetWriteDeadline(time.Now().Add(callTimeout))
	_, _ = conn.Write(encode(a)) // who hung up does not want it
	if r.Op == opQuit && err == nil {
		w.end()
	}
}

func allowed(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var peer *unix.Ucred
	if raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return false
	}
	return peer.Uid == 0 || int(peer.Uid) == os.Geteuid()
}

// do carries out a request; gone is closed when its caller hung up.
func (w *warden) do(r request, gone <-chan struct{}) error {
	switch r.Op {
	case opState:
		return nil
	case opStart:
		if r.Spec == nil {
			return fmt.Errorf("start service: %w: no command", signalbox.ErrInvalid)
		}
		if err := r.Spec.check(); err != nil {
			return fmt.Errorf("start service: %w", err)
		}
		return w.start(*r.Spec)
	case opSignal:
		return w.signal(syscall.Signal(r.Signal))
	case opStop:
		w.stop(syscall.Signal(r.Signal), r.Timeout, r.Why)
		return nil
	case opWait:
		w.wait(r.Run, gone)
		return nil
	case opArm:
		return w.arm(r.Term, r.Deadline)
	case opDisarm:
		return w.disarm()
	case opQuit:
		if w.state().Running {
			return fmt.Errorf("quit: the service is %w", ErrRunning)
		}
		return nil
	}
	return fmt.Errorf("%w: operation %q", signalbox.ErrInvalid, r.Op)
}
