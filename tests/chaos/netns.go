//go:build chaos || root

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/tests/lab"
)

// far is how long a packet takes from one data center to another, one way.
const far = 10 * time.Millisecond

// diskSize is that of a disk that can be filled: room for what a site writes otherwise.
const diskSize = 48 << 20

// A Kernel is a site whose data centers are network namespaces, with what can go wrong there.
type Kernel struct {
	*demo.Site
	Lab     *lab.Lab
	Freezer *lab.Freezer
	// Disks are the small disks that some processes keep their state on, by the process's name.
	Disks map[string]string
}

// Kind of voters that a site has.
type Voters struct {
	Name    string
	Options demo.Options
}

// LeaseTTL is that of the sites with leases: a failover that did not wait for it would be over before.
const LeaseTTL = 4 * time.Second

// FourVoters are two gateways in each of two data centers: u = 1, r = 1. Neither can be lost, so there are no leases.
func FourVoters() Voters {
	return Voters{"4 voters", demo.Options{Gateways: 2, Voters: 4, HoldBudget: 3 * time.Second, Envoys: 1, Instances: 2}}
}

// SixVoters are two gateways in each of three data centers: u = 2, r = 1. Any one can be lost.
func SixVoters() Voters {
	return Voters{"6 voters", demo.Options{
		Gateways: 2, North: true, NorthGateways: 2, Voters: 6, HoldBudget: 3 * time.Second, Envoys: 1, Instances: 2,
		Failover: fmt.Sprintf("{evidence: [lapse], lease_ttl: %s}", LeaseTTL),
	}}
}

// StartKernel starts a site in namespaces. dir is for disks and the cgroup hierarchy.
func StartKernel(ctx context.Context, v Voters, binaries demo.Binaries, dir string, disks ...string) (k *Kernel, err error) {
	k = &Kernel{Disks: map[string]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.Close())
		}
	}()
	opts := v.Options
	opts.Binaries, opts.Places, opts.States = binaries, map[string]demo.Place{}, map[string]string{}
	dcs := demo.DataCenters()
	if opts.North {
		dcs = append(dcs, demo.North)
	}
	if k.Lab, err = lab.New(far, dcs...); err != nil {
		return k, err
	}
	for _, dc := range dcs {
		opts.Places[dc] = demo.Place{Host: k.Lab.Host(dc), Enter: k.Lab.Enter(dc)}
	}
	for _, name := range disks {
		disk := filepath.Join(dir, name)
		if err := errors.Join(os.Mkdir(disk, 0o700), k.Lab.Disk(disk, diskSize)); err != nil {
			return k, err
		}
		k.Disks[name], opts.States[name] = disk, filepath.Join(disk, "state")
	}
	hierarchy := filepath.Join(dir, "cgroup")
	if err := os.Mkdir(hierarchy, 0o700); err != nil {
		return k, err
	}
	if k.Freezer, err = lab.NewFreezer(hierarchy); err != nil {
		return k, err
	}
	k.Site, err = demo.Start(ctx, opts)
	return k, err
}

// Close ends the site and its networks.
func (k *Kernel) Close() (err error) {
	if k.Freezer != nil {
		err = k.Freezer.Thaw()
	}
	if k.Site != nil {
		err = errors.Join(err, k.Site.Close())
	}
	if k.Freezer != nil {
		err = errors.Join(err, k.Freezer.Close())
	}
	if k.Lab != nil {
		err = errors.Join(err, k.Lab.Close())
	}
	return err
}

func noSlow(c *load.Config) { c.SlowFraction = 0 }
