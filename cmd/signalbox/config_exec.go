package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	execdriver "github.com/signalbox-io/signalbox/membership/agent/driver/exec"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// ExecConfig is an instance that is driven by commands. A command is a list: the
// program and its arguments, without a shell.
type ExecConfig struct {
	Status   []string `yaml:"status" doc:"exit code 0: it serves, 3: it does not"`
	Ready    []string `yaml:"ready" doc:"exit code 0: it could be promoted, 1: not; default: always"`
	StepDown []string `yaml:"step_down" doc:"exit code 0: closed and nothing in flight, 75: not yet; default: stop"`
	Promote  []string `yaml:"promote" doc:"exit code 0: it serves"`
	Stop     []string `yaml:"stop" doc:"closes at once; also run after a promotion that failed"`
	Prepare  []string `yaml:"prepare" doc:"run before a handover, when nothing is interrupted yet"`
	Follow   []string `yaml:"follow" doc:"run when another instance has become master"`

	Run         []string `yaml:"run" doc:"a program that the agent runs under a warden: only while it is master, or, with promote, always"`
	Directory   string   `yaml:"directory" doc:"where commands and program run; default: this file's folder"`
	Environment []string `yaml:"environment" doc:"NAME=value for commands and program, beside the agent's own"`
	User        string   `yaml:"user" doc:"whom the program runs as, when the agent runs as root"`
	StopTimeout Duration `yaml:"stop_timeout" doc:"how long the program may take to end after SIGTERM (default 3s)"`
	KillTime    Duration `yaml:"kill_time" doc:"how long before the end of its lease the program is killed (default 500ms)"`
	Timeout     Duration `yaml:"timeout" doc:"how long a command may take (default 30s)"`
}

// options are the driver's; only Dir, Log and the user are left out.
func (e *ExecConfig) options(file string, in InstanceConfig) execdriver.Options {
	return execdriver.Options{
		Service: signalbox.Service(in.Service), Instance: in.Name, Address: in.Address,
		Status: e.Status, Ready: e.Ready, StepDown: e.StepDown, Promote: e.Promote, Stop: e.Stop, Prepare: e.Prepare, Follow: e.Follow,
		Run: e.Run, WorkDir: resolve(file, e.Directory), Env: e.Environment,
		StopTimeout: time.Duration(e.StopTimeout), KillTime: time.Duration(e.KillTime), Timeout: time.Duration(e.Timeout),
	}
}

func (e *ExecConfig) check(p *problems, at string, in InstanceConfig) {
	o := e.options("", in)
	o.Dir = "/" // it is the agent's to give
	if err := o.Check(); err != nil {
		p.add(at, "%v", err)
	}
	if e.User != "" && len(e.Run) == 0 {
		p.add(at+".user", "is for what the agent runs: commands run as the agent")
	}
}

// execDriver makes the driver of an instance that is driven by commands.
func (c *AgentConfig) execDriver(in InstanceConfig, log zerolog.Logger) (driver.Driver, error) {
	o := in.Exec.options(c.file, in)
	if o.WorkDir == "" {
		o.WorkDir = filepath.Dir(c.file)
	}
	var err error
	if o.WorkDir, err = filepath.Abs(o.WorkDir); err != nil {
		return nil, err
	}
	if o.Dir, err = filepath.Abs(filepath.Join(c.State, in.Service, in.Name, "exec")); err != nil {
		return nil, err
	}
	if in.Exec.User != "" {
		as, err := credential(in.Exec.User)
		if err != nil {
			return nil, fmt.Errorf("exec.user: %w", err)
		}
		o.As = &warden.User{UID: as.Uid, GID: as.Gid}
	}
	o.Log = log.With().Str("service", in.Service).Str("instance", in.Name).Logger()
	return execdriver.New(o)
}
