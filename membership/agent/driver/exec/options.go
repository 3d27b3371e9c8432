package execdriver

import (
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// Defaults of Options.
const (
	DefaultTimeout     = 30 * time.Second
	DefaultStopTimeout = 3 * time.Second
)

// A Command is a program and its arguments; empty: there is none.
type Command []string

// Options say how an instance is driven.
type Options struct {
	Service  signalbox.Service
	Instance string
	// Address is where proxies reach the instance, for the commands.
	Address string
	// Dir is a directory of the driver's own, which survives restarts.
	Dir string

	Status, Ready, StepDown, Promote, Stop, Prepare, Follow Command

	// Run is a service that the driver runs itself, in the foreground. Without
	// Promote it runs exactly while it is master: promoting starts it, stepping
	// down stops it (after StepDown, where there is one). With Promote it always
	// runs, as a standby at first.
	Run Command
	// Dir and environment of Run and of the commands, beside this process's.
	WorkDir string
	Env     []string
	// As is whom Run runs as; the commands run as this process.
	As *warden.User
	// StopTimeout is how long Run may take to end after SIGTERM before it is
	// killed; 0: DefaultStopTimeout.
	StopTimeout time.Duration
	// KillTime is how long before the end of its lease Run is killed; 0:
	// warden.DefaultKillTime.
	KillTime time.Duration
	// Timeout bounds every command; 0: DefaultTimeout.
	Timeout time.Duration

	// Warden is the command that runs a warden; nil: `signalbox warden`, this
	// program.
	Warden []string
	Log    zerolog.Logger
}

// Check returns what is wrong with the commands, nil for nothing.
func (o *Options) Check() error {
	run := len(o.Run) > 0
	switch {
	case !run && len(o.Status) == 0:
		return fmt.Errorf("%w: no status command: nobody would know whether the service serves", signalbox.ErrInvalid)
	case !run && len(o.Promote) == 0:
		return fmt.Errorf("%w: no promote command, and nothing to run", signalbox.ErrInvalid)
	case !run && len(o.StepDown) == 0 && len(o.Stop) == 0:
		return fmt.Errorf("%w: neither a step-down nor a stop command", signalbox.ErrInvalid)
	case run && len(o.Promote) > 0 && len(o.Status) == 0:
		return fmt.Errorf("%w: what always runs and is promoted by a command needs a status command", signalbox.ErrInvalid)
	case run && len(o.Promote) > 0 && len(o.StepDown) == 0:
		return fmt.Errorf("%w: what always runs and is promoted by a command needs a step-down command", signalbox.ErrInvalid)
	case run && !strings.HasPrefix(o.Run[0], "/"):
		return fmt.Errorf("%w: program %q: give an absolute path", signalbox.ErrInvalid, o.Run[0])
	case o.Dir == "":
		return fmt.Errorf("%w: no directory for the driver", signalbox.ErrInvalid)
	case o.Timeout < 0 || o.StopTimeout < 0 || o.KillTime < 0:
		return fmt.Errorf("%w: a negative time", signalbox.ErrInvalid)
	}
	for _, c := range []Command{o.Status, o.Ready, o.StepDown, o.Promote, o.Stop, o.Prepare, o.Follow, o.Run} {
		if len(c) > maxWords || len(c) > 0 && c[0] == "" {
			return fmt.Errorf("%w: a command of %d words that begins with nothing, or is too long", signalbox.ErrInvalid, len(c))
		}
	}
	return nil
}

// maxWords is the largest number of words of a command.
const maxWords = 256
