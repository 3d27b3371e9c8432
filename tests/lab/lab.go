// Package lab puts data centers on networks of their own: one network namespace each, joined by a process that forwards
// IP packets between them and delays each by a set time, and what can go wrong there: partitions (nftables), disks that
// fill up (tmpfs), processes that are frozen (cgroup). Chaos runs and benchmarks share it. Linux only, and root.
//
// It guarantees that nothing outlives the process: the namespaces have no names, devices and mounts are in them, and
// Enter makes this process one that has namespaces of its own, so that the machine's own network and mounts are not
// touched even when it is killed. It does not limit bandwidth and loses no packet but what a full queue or a rule drops.
package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrRoot says what is missing where namespaces cannot be made.
var ErrRoot = errors.New("networks of their own need Linux namespaces: run it as root (sudo make chaos)")

// Maxima of a lab.
const (
	MaxDataCenters = 8
	MaxDelay       = 5 * time.Second
)

const (
	nearDevice = "near0" // of a data center, to who runs the lab: without delay
	farDevice  = "far0"  // of a data center, to all others
	network    = "10.77"
	// Home is the address of who runs the lab, as all data centers reach it.
	Home = "10.76.0.1"
)

// A Lab is some data centers' networks. The process that made it reaches all of them without delay and whatever is cut
// between them. Not safe for concurrent use.
type Lab struct {
	names []string
	nets  []*os.File // of each data center
	shim  *exec.Cmd
	pipe  io.Closer // the shim ends with it
	disks []string
}

// New makes the networks of data centers, each so long away from every other one. Enter has to have come before.
func New(delay time.Duration, dataCenters ...string) (*Lab, error) {
	if delay < 0 || delay > MaxDelay || len(dataCenters) == 0 || len(dataCenters) > MaxDataCenters {
		return nil, fmt.Errorf("make lab: %s of delay, %d data centers: at most %s and %d", delay, len(dataCenters), MaxDelay, MaxDataCenters)
	}
	if os.Getenv(stageVariable) != stageInside {
		return nil, fmt.Errorf("make lab: %w", ErrRoot)
	}
	l := &Lab{names: slices.Clone(dataCenters)}
	if err := l.build(delay); err != nil {
		return nil, errors.Join(fmt.Errorf("make lab: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) build(delay time.Duration) error {
	var tuns []*os.File
	defer func() {
		for _, t := range tuns {
			_ = t.Close() // the shim has its own
		}
	}()
	for i := range l.names {
		net, tun, err := newNetwork()
		if err != nil {
			return err
		}
		l.nets, tuns = append(l.nets, net), append(tuns, tun)
		if err := l.connect(i); err != nil {
			return err
		}
	}
	return l.startShim(delay, tuns)
}

// connect gives a data center its addresses and routes.
func (l *Lab) connect(i int) error {
	dc, near := l.names[i], "near"+strconv.Itoa(i)
	if _, err := run("ip", "link", "add", near, "type", "veth", "peer", "name", nearDevice, "netns", l.path(i)); err != nil {
		return err
	}
	for _, line := range []string{"ip addr add " + l.subnet(i, 254) + "/24 dev " + near, "ip link set " + near + " up"} {
		if _, err := run(strings.Fields(line)...); err != nil {
			return err
		}
	}
	for _, line := range []string{
		"ip link set lo up",
		"ip addr add " + l.Host(dc) + "/24 dev " + nearDevice,
		"ip link set " + nearDevice + " up",
		"ip link set " + farDevice + " txqueuelen " + strconv.Itoa(queueLength) + " up",
		"ip route add " + network + ".0.0/16 dev " + farDevice + " src " + l.Host(dc),
		"ip route add " + Home + " via " + l.subnet(i, 254),
		"nft add table inet lab",
		"nft add chain inet lab far { type filter hook input priority 0 ; }",
	} {
		if _, err := l.Run(dc, strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) index(dc string) int { return slices.Index(l.names, dc) }

func (l *Lab) subnet(i, host int) string { return fmt.Sprintf("%s.%d.%d", network, i+1, host) }

// path names a data center's namespace to other processes, as long as this one lives.
func (l *Lab) path(i int) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), l.nets[i].Fd()) }

// Host is a data center's address.
func (l *Lab) Host(dc string) string { return l.subnet(l.index(dc), 1) }

// Enter is what a command is given to, to become that command in a data center's network.
func (l *Lab) Enter(dc string) []string {
	return []string{"nsenter", "--net=" + l.path(l.index(dc)), "--"}
}

// Run runs a command in a data center and returns its output.
func (l *Lab) Run(dc string, command ...string) (string, error) {
	return run(slices.Concat(l.Enter(dc), command)...)
}

func run(command ...string) (string, error) {
	cmd := exec.Command(command[0], command[1:]...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// startShim starts the process that forwards.
func (l *Lab) startShim(delay time.Duration, tuns []*os.File) error {
	order, err := json.Marshal(shimOrder{Delay: delay, Networks: len(tuns)})
	if err != nil {
		return err
	}
	l.shim = exec.Command("/proc/self/exe")
	l.shim.Env = append(os.Environ(), stageVariable+"="+stageShim, orderVariable+"="+string(order))
	l.shim.Stderr, l.shim.ExtraFiles = os.Stderr, tuns
	l.shim.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if l.pipe, err = l.shim.StdinPipe(); err != nil {
		return err
	}
	if err := l.shim.Start(); err != nil {
		l.shim = nil
		return err
	}
	return nil
}

// Close ends the shim and gives the networks and disks back. Processes that are in them have to be gone. It may be
// called again.
func (l *Lab) Close() error {
	var errs []error
	if l.shim != nil {
		_ = l.pipe.Close() // it ends with it, whatever this says
		errs = append(errs, l.shim.Wait())
		l.shim = nil
	}
	for i, n := range l.nets {
		// The devices of a namespace go some time after its last process; their names here are wanted at once.
		_, err := run("ip", "link", "del", "near"+strconv.Itoa(i))
		errs = append(errs, err, n.Close())
	}
	l.nets = nil
	for _, dir := range l.disks {
		errs = append(errs, syscall.Unmount(dir, syscall.MNT_DETACH))
	}
	l.disks = nil
	return errors.Join(errs...)
}
