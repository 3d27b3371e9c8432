package database

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/inserts"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// TTL is the lease of Lapse.
const TTL = 3 * time.Second

// Lapse is a service's failover that begins by itself when nothing was heard of
// the master's data center for two seconds, and goes by leases.
const Lapse = "{mode: automatic, silence: 2s, evidence: [lapse], lease_ttl: 3s}"

// straightEvery is how often clients that are connected straight to a server
// write during an outage: a standby refuses them, and they connect anew.
const straightEvery = 20 * time.Millisecond

// Outage is one loss of the master's whole data center as the clients saw it.
type Outage struct {
	From string `json:"from"`
	To   string `json:"to"`
	Term uint64 `json:"term"`
	// Killed is just before the first kill.
	Killed time.Time `json:"killed"`
	// WritableMS is from the first kill to the first row that the new master
	// acknowledged to a client behind the proxies.
	WritableMS float64       `json:"writable_ms"`
	Writable   time.Duration `json:"-"`
	// Acknowledged are the rows that were acknowledged before the kill, Lost those
	// of them that the new master has not.
	Acknowledged int `json:"acknowledged_rows"`
	Lost         int `json:"lost_acknowledged_rows"`
	// LostWithinMS is how long before the kill the oldest of them was acknowledged.
	LostWithinMS float64 `json:"lost_within_ms"`
	// Unfenced are rows that the old server acknowledged after the kill, to a
	// client connected straight to it.
	Unfenced int `json:"rows_on_the_old_master"`
	// Later are rows that were acknowledged after the kill and are gone.
	Later int `json:"lost_rows_acknowledged_later"`
	// BackMS is from the return of the data center until its server follows.
	BackMS float64 `json:"standby_again_ms"`

	Handover api.Handover `json:"-"`
}

// OK reports whether nobody but the new master took a write.
func (o *Outage) OK() bool {
	return o.Unfenced == 0 && o.Later == 0 && o.Handover.Outcome == api.OutcomeForward
}

// Outages kills everything in the master's data center at once, n times in all,
// waits until the other one serves, brings the dead one back and waits until its
// server follows. each is told of every one; may be nil.
func (d *Database) Outages(ctx context.Context, n int, each func(Outage)) (all []Outage, err error) {
	master := demo.East
	for range n {
		o, err := d.outage(ctx, master)
		if err != nil {
			return all, fmt.Errorf("outage of %s: %w", master, err)
		}
		if each != nil {
			each(o)
		}
		all = append(all, o)
		master = o.To
	}
	return all, nil
}

func (d *Database) outage(ctx context.Context, master string) (o Outage, err error) {
	ctx, cancel := context.WithTimeout(ctx, switchWithin)
	defer cancel()
	o = Outage{From: master, To: other(master)}
	first := 1000 * int(time.Now().Unix()%1_000_000) // rows of their own
	l := inserts.Start(inserts.Config{Store: d.server.store(""), First: first})
	defer l.Stop()
	straight := inserts.Start(inserts.Config{Store: d.server.store(master), Writers: 1, First: first + 100, Every: straightEvery})
	defer straight.Stop()
	if err := errors.Join(l.Flows(ctx, time.Now(), flowing), straight.Flows(ctx, time.Now(), 10)); err != nil {
		return o, err
	}
	killed, err := d.Kill(master)
	o.Killed = killed
	if err != nil {
		return o, err
	}
	dead := time.Now() // nothing that lived before is left
	if err := l.Flows(ctx, dead, flowing); err != nil {
		return o, err
	}
	served, _ := l.Span(dead, time.Now())
	o.Writable = served.Sub(killed)
	o.WritableMS = float64(o.Writable.Microseconds()) / 1000
	for _, load := range []*inserts.Load{l, straight} {
		missing, err := load.Missing(ctx, d.server.store(o.To), dead)
		if err != nil {
			return o, err
		}
		o.Acknowledged += load.Between(time.Time{}, dead).Acknowledged
		o.Lost += len(missing)
		for _, at := range missing {
			o.LostWithinMS = max(o.LostWithinMS, float64(killed.Sub(at).Microseconds())/1000)
		}
	}
	returned := time.Now()
	if err := d.Revive(master); err != nil {
		return o, err
	}
	if err := d.Settled(ctx, o.To); err != nil {
		return o, err
	}
	o.BackMS = float64(time.Since(returned).Milliseconds())
	straight.Stop()
	l.Stop()
	o.Unfenced = straight.Between(dead, time.Now()).Acknowledged
	for _, load := range []*inserts.Load{l, straight} {
		missing, err := load.Check(ctx, d.server.store(o.To))
		if err != nil {
			return o, err
		}
		o.Later += missing
	}
	o.Later -= o.Lost
	return o, d.newest(ctx, &o)
}

// newest takes the record of the newest handover.
func (d *Database) newest(ctx context.Context, o *Outage) error {
	list, err := d.API().Handovers(ctx, Service, 1)
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return errors.New("no record of the failover")
	}
	if o.Handover, err = d.Follow(ctx, list[0].ID); err != nil {
		return err
	}
	o.Term = o.Handover.CertifiedTerm
	if o.Handover.To != o.To {
		return fmt.Errorf("the newest record is of a handover to %s", o.Handover.To)
	}
	return nil
}

// Kill ends everything in a data center at once (SIGKILL): gateway, Envoy, agent,
// warden and every process of the server. It returns the time just before the
// first signal, when all of it is gone.
func (d *Database) Kill(dc string) (time.Time, error) {
	killed := map[int]bool{}
	kill := func() {
		pids := append(wardens(d.wardenOf(dc)), d.server.pid(dc))
		for _, pid := range pids {
			pids = append(pids, descendants(pid)...)
		}
		for _, pid := range pids {
			if pid != 0 && lives(pid) {
				killed[pid] = true
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended with its parent
			}
		}
	}
	at := time.Now()
	kill()
	ended := make(chan error, 3)
	go func() { ended <- d.Down("agent-"+dc, syscall.SIGKILL) }()
	go func() { ended <- d.Down("envoy-"+dc, syscall.SIGKILL) }()
	go func() { _, err := d.DownAll(dc); ended <- err }()
	err := errors.Join(<-ended, <-ended, <-ended)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return at, errors.Join(err, demo.Await(ctx, "the end of "+dc, func(context.Context) error {
		kill() // what the agent started again while it lived
		for pid := range killed {
			if lives(pid) {
				return fmt.Errorf("process %d lives", pid)
			}
		}
		return nil
	}))
}

// Straight starts a client that is connected straight to a data center's server,
// past the proxies; writer numbers its rows.
func (d *Database) Straight(dc string, writer int) *inserts.Load {
	return inserts.Start(inserts.Config{Store: d.server.store(dc), Writers: 1, First: writer, Every: straightEvery})
}

// KillAgent ends the agent of a data center's server (SIGKILL), and with it its
// warden where that is asked for. The server is left alone.
func (d *Database) KillAgent(dc string, withWarden bool) error {
	if pid := d.server.pid(dc); withWarden && pid != 0 {
		parent, err := parentOf(pid)
		if err != nil || parent <= 1 {
			return fmt.Errorf("kill the warden of %s: parent %d: %w", dc, parent, err)
		}
		if err := syscall.Kill(parent, syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill the warden of %s: %w", dc, err)
		}
	}
	return d.Down("agent-"+dc, syscall.SIGKILL)
}

// Runs reports whether a data center's server runs.
func (d *Database) Runs(dc string) bool {
	pid := d.server.pid(dc)
	return pid != 0 && lives(pid)
}

func parentOf(pid int) (parent int, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	_, err = fmt.Sscanf(rest, "%1s %d", new(string), &parent)
	return parent, err
}

// Revive starts again what Kill ended; the agent starts the server.
func (d *Database) Revive(dc string) error {
	return errors.Join(d.UpAll(dc), d.Up("envoy-"+dc), d.Up("agent-"+dc))
}

// wardens are the processes that watch a directory.
func wardens(dir string) (pids []int) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		text, err := os.ReadFile(line)
		if err != nil || !strings.Contains(string(text), "warden\x00"+dir) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(line))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// descendants are the processes that a process has started, and theirs.
func descendants(pid int) (pids []int) {
	if pid == 0 {
		return nil
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil // it ended
	}
	for _, f := range strings.Fields(string(raw)) {
		if child, err := strconv.Atoi(f); err == nil {
			pids = append(append(pids, child), descendants(child)...)
		}
	}
	return pids
}

// lives reports whether a process runs; one that nobody waited for does not.
func lives(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(raw), ") Z ")
}
