package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

// Driver drives one server. Safe for concurrent use.
type Driver struct {
	cfg Config
	own *link

	turn  managed.Turn // of who carries out an order
	mem   *managed.Memory[memory]
	lease managed.Lease
	// revived is when the server was last started because it had ended.
	revived managed.Pace

	mu sync.Mutex // guards what follows
	// closed is the configuration file as it was when it was last seen to make
	// the server a replica.
	closed os.FileInfo
	peers  map[string]*link // of the master and the replicas, by address
	seen   sight            // the master when it was last looked at
}

// sight is how far a master's data reached at a moment.
type sight struct {
	position Position
	at       time.Time
}

var (
	_ driver.Driver   = (*Driver)(nil)
	_ driver.Quieter  = (*Driver)(nil)
	_ driver.Preparer = (*Driver)(nil)
	_ driver.Follower = (*Driver)(nil)
	_ driver.Leaser   = (*Driver)(nil)
)

// New returns the driver of a server, which may run or not. It connects nowhere
// and starts nothing yet; it makes the state directory, and sees to it that the
// server's next start is one as a replica.
func New(cfg Config) (*Driver, error) {
	cfg.defaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("redis driver: %w", err)
	}
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		return nil, fmt.Errorf("redis driver: %w", err)
	}
	mem, err := managed.OpenMemory[memory](filepath.Join(cfg.State, memoryFile))
	if err != nil {
		return nil, fmt.Errorf("redis driver: %w", err)
	}
	d := &Driver{cfg: cfg, mem: mem, turn: managed.NewTurn(), peers: map[string]*link{}}
	if d.own, err = newLink(cfg.Address, cfg.Login); err != nil {
		return nil, fmt.Errorf("redis driver: %w", err)
	}
	if _, err := cfg.Replicate.tls(cfg.Address); err != nil {
		return nil, fmt.Errorf("redis driver: %w", err)
	}
	if err := d.closeFile(); err != nil {
		return nil, fmt.Errorf("redis driver: %w", err)
	}
	return d, nil
}

// maxPeers bounds the connections that are kept to other servers.
const maxPeers = 32

// peer keeps connections to another server.
func (d *Driver) peer(address string) (*link, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.peers[address]; l != nil {
		return l, nil
	}
	if len(d.peers) >= maxPeers {
		d.dropPeers()
	}
	l, err := newLink(address, *d.cfg.Replicate)
	if err == nil {
		d.peers[address] = l
	}
	return l, err
}

// dropPeers closes them; the caller holds the lock. Whoever uses one at this
// moment gets an error and asks again.
func (d *Driver) dropPeers() {
	for address, l := range d.peers {
		l.close()
		delete(d.peers, address)
	}
}

// Status implements driver.Driver. It also sees to it that the configuration
// file was not rewritten to make the server a master at its next start, and
// starts a server that has ended: as a replica, as always.
func (d *Driver) Status(ctx context.Context) (driver.Status, error) {
	s, err := d.own.look(ctx)
	status := driver.Status{Term: d.mem.Get().Term} // after the look: it is noted before the server opens
	if errors.Is(err, errDown) {
		d.revive(ctx)
		return status, nil
	}
	if err != nil {
		return driver.Status{}, fmt.Errorf("ask server: %w", err)
	}
	status.Run, status.Master = s.Run, s.Master && !s.Loading
	return status, d.closeFile()
}

// Quiet implements driver.Quieter. Redis carries commands out one after the
// other, so nothing is ever in flight between two of them.
func (d *Driver) Quiet(context.Context, time.Duration, time.Duration) {}

// Stop implements driver.Driver. The server goes on.
func (d *Driver) Stop(context.Context) error {
	d.own.close()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dropPeers()
	return nil
}

// Loss is what this server's last full synchronization took back; nil when there
// was none.
func (d *Driver) Loss() *Loss { return d.mem.Get().Loss }
