package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// The findings of doctor.
const (
	findingOK   = "ok"
	findingWarn = "warn"
	findingFail = "fail"
)

// finding is one thing that doctor looked at.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"`
	Detail string `json:"detail"`
}

// Bounds beyond which doctor warns.
const (
	slowFsync    = 20 * time.Millisecond
	fewOpenFiles = 4096
)

func newDoctorCommand(std stdio) *cobra.Command {
	var config, bundle string
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check this machine and a process's configuration", GroupID: groupSetup, Args: cobra.NoArgs,
		Long: "Checks what a Signalbox process needs of this machine: keys, addresses, the disk's fsync, open files,\n" +
			"Envoy. Exit code 1 when something would fail.",
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "gateway.yaml or agent.yaml to check")
	cmd.Flags().StringVar(&bundle, "bundle", "", "bundle to check")
	output := addOutput(cmd, false)
	cmd.RunE = func(*cobra.Command, []string) error {
		findings := []finding{checkEnvoy(), checkOpenFiles()}
		if bundle != "" {
			findings = append(findings, checkBundle(bundle))
		}
		if config != "" {
			more, err := checkConfig(config)
			if err != nil {
				return err
			}
			findings = append(findings, more...)
		}
		err := output.write(std.out, findings, func(w io.Writer, _ bool) error {
			lines := [][]string{{"CHECK", "STATE", "DETAIL"}}
			for _, f := range findings {
				lines = append(lines, []string{f.Check, f.State, f.Detail})
			}
			return rows(w, lines)
		})
		for _, f := range findings {
			if f.State == findingFail && err == nil {
				err = &exitError{code: exitFailure}
			}
		}
		return err
	}
	return cmd
}

func checkConfig(path string) ([]finding, error) {
	cfg, err := loadConfig(path, "")
	if err != nil {
		return nil, err
	}
	switch c := cfg.(type) {
	case *GatewayConfig:
		b, cluster, err := c.loadBundle()
		if err != nil {
			return nil, err
		}
		findings := []finding{checkBundle(c.Bundle), checkState(c.State)}
		listen := c.listenOn(cluster, b.Self.Name)
		of := listen.addresses()
		for _, what := range sortedKeys(of) {
			findings = append(findings, checkListen(what, *of[what]))
		}
		return findings, nil
	case *AgentConfig:
		b, err := c.loadBundle()
		if err != nil {
			return nil, err
		}
		findings := []finding{checkBundle(c.Bundle), checkState(c.State), checkListen("gossip", c.Gossip.Listen)}
		for _, g := range c.gateways(b) {
			findings = append(findings, checkReach("gateway", g))
		}
		for _, in := range c.Instances {
			findings = append(findings, checkReach("instance "+in.Name, in.Address))
		}
		return findings, nil
	}
	return nil, usagef("%s: doctor checks a gateway.yaml or an agent.yaml", path)
}

func checkBundle(dir string) finding {
	b, err := identity.Load(dir)
	if err != nil {
		return finding{"bundle", findingFail, err.Error()}
	}
	if v := viewBundle(b, time.Now()); v.State != "valid" {
		return finding{"bundle", findingWarn, v.State}
	}
	return finding{"bundle", findingOK, fmt.Sprintf("%s, valid until %s", b.Self, b.NotAfter.Format(time.DateOnly))}
}

// checkState writes and syncs a file where the state is going to be.
func checkState(dir string) finding {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return finding{"state", findingFail, err.Error()}
	}
	f, err := os.CreateTemp(dir, ".doctor.*")
	if err != nil {
		return finding{"state", findingFail, err.Error()}
	}
	defer os.Remove(f.Name())
	defer f.Close()
	slowest := time.Duration(0)
	for range 5 {
		start := time.Now()
		if _, err := f.WriteString("signalbox\n"); err != nil {
			return finding{"state", findingFail, err.Error()}
		}
		if err := f.Sync(); err != nil {
			return finding{"state", findingFail, err.Error()}
		}
		slowest = max(slowest, time.Since(start))
	}
	if slowest > slowFsync {
		return finding{"state", findingWarn, fmt.Sprintf("fsync in %s took up to %s: every ack waits for one", dir, slowest.Round(time.Millisecond))}
	}
	return finding{"state", findingOK, fmt.Sprintf("%s, fsync within %s", dir, slowest.Round(10*time.Microsecond))}
}

func checkListen(what, address string) finding {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return finding{"listen " + what, findingFail, err.Error()}
	}
	ln.Close()
	return finding{"listen " + what, findingOK, address}
}

func checkReach(what, address string) finding {
	conn, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return finding{"reach " + what, findingWarn, err.Error()}
	}
	conn.Close()
	return finding{"reach " + what, findingOK, address}
}

func checkEnvoy() finding {
	var beside []string
	if self, err := os.Executable(); err == nil {
		beside = append(beside, filepath.Dir(self))
	}
	path, err := demo.FindEnvoy(beside...) // where the demo finds one
	if err != nil {
		return finding{"envoy", findingWarn, err.Error() + "; only proxies' machines and the demo need one"}
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return finding{"envoy", findingWarn, fmt.Sprintf("%s --version: %v", filepath.Base(path), err)}
	}
	_, version, _ := strings.Cut(strings.TrimSpace(string(out)), "version: ") // before it stands the path
	if parts := strings.Split(version, "/"); len(parts) > 1 {
		version = parts[1]
	}
	return finding{"envoy", findingOK, version}
}

func checkOpenFiles() finding {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return finding{"open files", findingWarn, err.Error()}
	}
	if limit.Cur < fewOpenFiles {
		return finding{"open files", findingWarn, fmt.Sprintf("%d at most: a gateway with many proxies needs more (ulimit -n)", limit.Cur)}
	}
	return finding{"open files", findingOK, fmt.Sprintf("%d at most", limit.Cur)}
}
