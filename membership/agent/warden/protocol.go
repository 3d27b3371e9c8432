package warden

import (
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/signalbox-io/signalbox"
)

// The files of a warden's directory.
const (
	socketName = "warden.sock"
	lockName   = "warden.lock"
	recordName = "warden.json"
	logName    = "warden.log"
)

// DefaultKillTime is how long before a deadline killing begins. SIGKILL ends what
// a process does within microseconds; the rest is for a busy machine.
const DefaultKillTime = 500 * time.Millisecond

// Maxima of what a warden takes.
const (
	maxRequest = 256 << 10 // bytes of one request or reply
	maxCalls   = 64        // requests at once
	maxCommand = 1024      // words of a command
	maxEnv     = 4096      // variables of an environment
)

// Errors of a warden.
var (
	// ErrRunning is returned when a service is to be started while one runs, or
	// while something that it left behind could not be killed yet.
	ErrRunning = errors.New("running already")
	// ErrNotRunning is returned when there is nothing to signal or to arm for.
	ErrNotRunning = errors.New("not running")
)

// Spec is a service to run.
type Spec struct {
	// Command is the program, an absolute path, and its arguments. It has to stay
	// in the foreground: when it ends, what it left behind is killed.
	Command []string `json:"command"`
	// Dir is its working directory; empty: /.
	Dir string `json:"dir,omitempty"`
	// Env is its whole environment, as NAME=value.
	Env []string `json:"env,omitempty"`
	// As is the user to run as; nil: as the warden.
	As *User `json:"as,omitempty"`
	// Output is the file that standard output and error are appended to; empty:
	// nowhere. It is cut when it grows beyond MaxOutput.
	Output string `json:"output,omitempty"`
	// DeadMan has the kernel kill the main process when the warden dies: for
	// services with leases, which nobody would end in time then.
	DeadMan bool `json:"dead_man,omitempty"`
	// KillTime is how long before a deadline killing begins; 0: DefaultKillTime.
	KillTime time.Duration `json:"kill_time,omitempty"`
	// Term and Deadline arm the warden from the start, as Client.Arm does later;
	// a deadline of 0 does not.
	Term     signalbox.Term `json:"term,omitempty"`
	Deadline time.Duration  `json:"deadline,omitempty"`
}

// User is a user to run as.
type User struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
}

// As is the user that a credential stands for; nil for nil.
func As(c *syscall.Credential) *User {
	if c == nil {
		return nil
	}
	return &User{UID: c.Uid, GID: c.Gid, Groups: c.Groups}
}

func (s *Spec) check() error {
	switch {
	case len(s.Command) == 0 || len(s.Command) > maxCommand || len(s.Env) > maxEnv:
		return fmt.Errorf("%w: %d words and %d variables", signalbox.ErrInvalid, len(s.Command), len(s.Env))
	case s.Command[0] == "" || s.Command[0][0] != '/':
		return fmt.Errorf("%w: program %q: give an absolute path", signalbox.ErrInvalid, s.Command[0])
	case s.KillTime < 0:
		return fmt.Errorf("%w: kill time %s", signalbox.ErrInvalid, s.KillTime)
	}
	return nil
}

// State is what a warden says of its service.
type State struct {
	// Warden is the warden's process id.
	Warden int `json:"warden"`
	// Running is true as long as anything of the service is there.
	Running bool `json:"running"`
	// Stopping is true from when the service was told to stop, or is killed: it
	// will not be Running for long.
	Stopping bool `json:"stopping,omitempty"`
	// PID is the main process, 0 when it has ended.
	PID int `json:"pid,omitempty"`
	// Run names the start of the service; "" before the first one.
	Run     string    `json:"run,omitempty"`
	Started time.Time `json:"started,omitzero"`
	// Exit says how the main process ended, Killed why the warden killed it.
	Exit   string `json:"exit,omitempty"`
	Killed string `json:"killed,omitempty"`
	// Term and Deadline are of the lease: when it ends, on driver.BootTime's
	// clock; 0 while not armed.
	Term     signalbox.Term `json:"term,omitempty"`
	Deadline time.Duration  `json:"deadline,omitempty"`
	// Cgroup is the control group that the service runs in, "" without one.
	Cgroup string `json:"cgroup,omitempty"`
}

// The operations.
const (
	opState  = "state"
	opStart  = "start"
	opSignal = "signal"
	opStop   = "stop"
	opWait   = "wait"
	opArm    = "arm"
	opDisarm = "disarm"
	opQuit   = "quit"
)

// request is one line to the warden, reply the line that answers it.
type request struct {
	Op       string         `json:"op"`
	Spec     *Spec          `json:"spec,omitempty"`
	Signal   int            `json:"signal,omitempty"`
	Timeout  time.Duration  `json:"timeout,omitempty"`
	Why      string         `json:"why,omitempty"`
	Term     signalbox.Term `json:"term,omitempty"`
	Deadline time.Duration  `json:"deadline,omitempty"`
	Run      string         `json:"run,omitempty"`
}

type reply struct {
	State State  `json:"state"`
	Error string `json:"error,omitempty"`
	Kind  string `json:"kind,omitempty"`
}

// kinds are the errors that cross the socket as what they are.
var kinds = map[string]error{
	"running": ErrRunning, "not-running": ErrNotRunning, "invalid": signalbox.ErrInvalid,
}

// fault puts an error into a reply, err takes it out again.
func (r *reply) fault(err error) {
	if err == nil {
		return
	}
	r.Error = err.Error()
	for kind, is := range kinds {
		if errors.Is(err, is) {
			r.Kind = kind
		}
	}
}

func (r *reply) err() error {
	switch {
	case r.Error == "":
		return nil
	case kinds[r.Kind] != nil:
		return &faultError{text: r.Error, is: kinds[r.Kind]}
	}
	return errors.New(r.Error)
}

// faultError is a warden's error on the agent's side.
type faultError struct {
	text string
	is   error
}

// Error returns the warden's words.
func (e *faultError) Error() string { return e.text }

// Unwrap returns the error's kind.
func (e *faultError) Unwrap() error { return e.is }

func encode(v any) []byte {
	raw, _ := json.Marshal(v) // strings, numbers and times always encode
	return append(raw, '\n')
}
