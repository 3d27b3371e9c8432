//go:build chaos || root

package chaos

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/tests/lab"
)

// A Fault is what goes wrong in a site of namespaces for a while.
type Fault struct {
	Name       string
	Begin, End func(k *Kernel) error
	// Disk is the process whose state has to be on a disk that can be filled; empty for none.
	Disk string
}

func nothing(*Kernel) error { return nil }

func heal(k *Kernel) error { return k.Lab.Heal() }

// Partition cuts everything between two data centers.
func Partition(a, b string) Fault {
	return Fault{Name: "partition " + a + " " + b, Begin: func(k *Kernel) error {
		return errors.Join(k.Lab.Cut(a, b, lab.Everything), k.Lab.Cut(b, a, lab.Everything))
	}, End: heal}
}

// OneWay cuts what one data center says to another.
func OneWay(from, to string) Fault {
	return Fault{Name: "one way " + from + " " + to, Begin: func(k *Kernel) error { return k.Lab.Cut(from, to, lab.Everything) }, End: heal}
}

// Isolate cuts a data center off from all others.
func Isolate(dc string) Fault {
	return Fault{Name: "isolate " + dc, Begin: func(k *Kernel) error { return k.Lab.Isolate(dc) }, End: heal}
}

// NoGossip cuts the datagrams between two data centers.
func NoGossip(a, b string) Fault {
	return Fault{Name: "no gossip " + a + " " + b, Begin: func(k *Kernel) error {
		return errors.Join(k.Lab.Cut(a, b, lab.Datagrams), k.Lab.Cut(b, a, lab.Datagrams))
	}, End: heal}
}

// OnlyGossip cuts the connections between the gateways of two data centers.
func OnlyGossip(a, b string) Fault {
	return Fault{Name: "only gossip " + a + " " + b, Begin: func(k *Kernel) error {
		return errors.Join(k.Lab.Cut(a, b, lab.Connections(k.rpcPorts(b)...)), k.Lab.Cut(b, a, lab.Connections(k.rpcPorts(a)...)))
	}, End: heal}
}

func (k *Kernel) rpcPorts(dc string) (ports []string) {
	for _, g := range k.Gateways() {
		if g.DataCenter == dc {
			_, port, err := net.SplitHostPort(g.RPC)
			if err != nil {
				panic(fmt.Sprintf("address of %s: %v", g.Name, err)) // the site made it
			}
			ports = append(ports, port)
		}
	}
	return ports
}

// Frozen has the kernel stop processes, as a paused container: they cannot notice.
func Frozen(names ...string) Fault {
	return Fault{Name: fmt.Sprintf("frozen %v", names), Begin: func(k *Kernel) error {
		var pids []int
		for _, name := range names {
			if pid := k.Pid(name); pid != 0 {
				pids = append(pids, pid)
			}
		}
		return k.Freezer.Freeze(pids...)
	}, End: func(k *Kernel) error { return k.Freezer.Thaw() }}
}

// Stopped stops one process with SIGSTOP.
func Stopped(name string) Fault {
	return Fault{
		Name: "stopped " + name, Begin: func(k *Kernel) error { return k.Signal(name, syscall.SIGSTOP) },
		End: func(k *Kernel) error { return k.Signal(name, syscall.SIGCONT) },
	}
}

// Killed ends one process with SIGKILL; it is started again.
func Killed(name string) Fault {
	return Fault{Name: "killed " + name, Begin: func(k *Kernel) error { return k.Kill(name) }, End: nothing}
}

// Full fills the disk with one process's state.
func Full(name string) Fault {
	return Fault{
		Name: "disk full of " + name, Disk: name, Begin: func(k *Kernel) error { return lab.Fill(k.Disks[name]) },
		End: func(k *Kernel) error { return lab.Free(k.Disks[name]) },
	}
}

// both is two faults at once.
func both(a, b Fault) Fault {
	return Fault{
		Name: a.Name + ", " + b.Name, Disk: a.Disk + b.Disk,
		Begin: func(k *Kernel) error { return errors.Join(a.Begin(k), b.Begin(k)) },
		End:   func(k *Kernel) error { return errors.Join(a.End(k), b.End(k)) },
	}
}

// SwitchFaults are met by a planned switch, whatever the voters are.
func SwitchFaults() []Fault {
	return []Fault{
		Partition(demo.East, demo.West), OneWay(demo.East, demo.West), OneWay(demo.West, demo.East),
		NoGossip(demo.East, demo.West), OnlyGossip(demo.East, demo.West),
		Frozen("gw-east-1"), Frozen("gw-west-1"), Stopped("gw-east-2"), Frozen("orders-east-1"), Stopped("orders-west-1"), Frozen("agent-west-1"),
		Killed("gw-east-1"), Killed("gw-west-2"), Killed("orders-east-2"), Killed("agent-west-2"), Killed("orders-west-2"),
		both(Partition(demo.East, demo.West), Killed("gw-west-1")),
		Full("gw-east-1"), Full("gw-west-2"), Full("orders-east-1"), Full("agent-west-1"),
	}
}

// FailoverFaults hit the master's data center, named east here, and are followed by a failover to the other one.
func FailoverFaults(master string) []Fault {
	instances := []string{"orders-east-1", "orders-east-2"}
	alone := append([]string{"envoy-east-1"}, instances...)
	if master == demo.West {
		instances = []string{"orders-west-1", "orders-west-2"}
		alone = []string{"agent-west-1", "agent-west-2"}
	}
	return []Fault{
		Isolate(master), Frozen(instances...), Frozen(alone...),
		Frozen(append([]string{"gw-" + master + "-1", "gw-" + master + "-2"}, instances...)...),
		both(Isolate(master), Frozen(instances[0])),
	}
}
