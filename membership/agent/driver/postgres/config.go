package postgres

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
)

// Policy says what becomes of transactions that run when the primary steps down.
type Policy string

// The policies.
const (
	// Wait lets them end until the deadline; then the switch is given up.
	Wait Policy = "wait"
	// Cancel lets them end for half of the time until the deadline, then ends them.
	Cancel Policy = "cancel"
	// Abort gives the switch up at once when one is older than LongTransaction.
	Abort Policy = "abort"
)

func (p Policy) advice() string {
	switch p {
	case Cancel:
		return "end it with pg_terminate_backend, or let the switch do so (transactions: cancel)"
	case Abort:
		return "end it with pg_terminate_backend or wait: the switch is refused while it runs (transactions: abort)"
	}
	return "end it with pg_terminate_backend or wait: the switch is given up when it does not end in time (transactions: wait)"
}

// Mode says how a primary that steps down is stopped.
type Mode string

// The modes. Neither loses anything that was acknowledged.
const (
	// Fast kills the server once the standby has flushed and replayed the end of
	// its log. The next start replays the log from the last checkpoint; what
	// background processes wrote after the end may have to be rewound.
	Fast Mode = "fast"
	// Clean has the server write a shutdown checkpoint, which the standby
	// receives: the data directory is consistent as it lies there, ends exactly
	// where the new primary begins, and needs neither replay nor rewind.
	Clean Mode = "clean"
)

// Config is how one server is driven. New checks it and fills the defaults in.
type Config struct {
	// Name is the instance's; it makes the names of its slot and its sessions.
	Name string
	// Data is the data directory, absolute; it must exist.
	Data string
	// Bin is where PostgreSQL's programs are. Default: /usr/lib/postgresql/15/bin.
	Bin string
	// State is a directory of the driver's own, outside of Data.
	State string
	// Connect is how the driver connects to its server, as in
	// "host=/run/postgresql port=5432 user=signalbox dbname=postgres". The role
	// is a superuser. Passwords belong into a passfile.
	Connect string
	// Replicate is what is added to the master's address to follow it, as in
	// "user=signalbox passfile=/etc/signalbox/pgpass".
	Replicate string
	// TLS, where given, is for Connect and Replicate both; a Unix socket needs none.
	TLS *TLS
	// Options are more settings for the server's command line, "name=value"; they
	// win over every file, and pg_rewind does not carry them over.
	Options []string
	// Standbys are the names of the other instances; slots are kept for them.
	Standbys []string
	// Stop is how the server is stopped. Default: Fast.
	Stop Mode
	// Transactions is what becomes of running ones. Default: Wait.
	Transactions Policy
	// LongTransaction is the age from which one is named. Default: 1 s.
	LongTransaction time.Duration
	// MaxLag is how many bytes a standby may be behind and count as ready.
	// Default: 16 MiB.
	MaxLag uint64
	// MaxLoss is how many bytes a failover may lose; nil: any number.
	MaxLoss *uint64
	// MinFree is how much room a disk must have, in bytes. Default: 256 MiB.
	MinFree uint64
	// As is whom the server and its programs run as; nil: as this process. A
	// server refuses to run as root.
	As *syscall.Credential
	// Launch starts the server. Default: as a child of this process.
	Launch Launcher
	// Log is where the driver tells what it does.
	Log zerolog.Logger
}

const (
	// MaxStandbys is the largest number of other instances.
	MaxStandbys = 16
	// slotPrefix begins the names of the driver's own slots.
	slotPrefix = "signalbox_"
)

var settingName = regexp.MustCompile(`^[a-z_][a-z0-9_.]*=`)

// own are the settings that belong to the driver.
var own = []string{"primary_conninfo", "primary_slot_name", "recovery_target_timeline", "restart_after_crash", "hot_standby", "wal_retrieve_retry_interval", "data_directory"}

func (c *Config) defaults() {
	if c.Bin == "" {
		c.Bin = "/usr/lib/postgresql/15/bin"
	}
	if c.Stop == "" {
		c.Stop = Fast
	}
	if c.Transactions == "" {
		c.Transactions = Wait
	}
	if c.LongTransaction == 0 {
		c.LongTransaction = time.Second
	}
	if c.MaxLag == 0 {
		c.MaxLag = 16 << 20
	}
	if c.MinFree == 0 {
		c.MinFree = 256 << 20
	}
	if c.TLS != nil && c.TLS.Mode == "" {
		t := *c.TLS // not the caller's
		t.Mode = VerifyFull
		c.TLS = &t
	}
	if c.Launch == nil {
		c.Launch = directly{}
	}
}

func (c *Config) check() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{signalbox.ErrInvalid}, args...)...))
	}
	if slotName(c.Name) == slotPrefix {
		bad("name %q: want letters or digits", c.Name)
	}
	for what, path := range map[string]string{"data": c.Data, "state": c.State, "bin": c.Bin} {
		if !filepath.IsAbs(path) {
			bad("%s %q: want an absolute path", what, path)
		}
	}
	if rel, err := filepath.Rel(c.Data, c.State); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
		bad("state %q lies inside of the data directory, where pg_rewind would overwrite it", c.State)
	}
	if c.TLS != nil {
		if err := c.TLS.check(c); err != nil {
			errs = append(errs, err)
		}
	}
	if _, err := pgx.ParseConfig(c.Connect + c.TLS.Conninfo()); err != nil {
		bad("connect: %v", err)
	}
	if _, err := pgx.ParseConfig("host=127.0.0.1 " + c.Replicate + c.TLS.Conninfo()); err != nil {
		bad("replicate: %v", err)
	}
	for _, o := range c.Options {
		name, _, _ := strings.Cut(o, "=")
		if !settingName.MatchString(o) {
			bad("option %q: want name=value", o)
		}
		for _, n := range own {
			if n == name {
				bad("option %q: the driver sets it", o)
			}
		}
	}
	if len(c.Standbys) > MaxStandbys {
		bad("%d standbys: want %d at most", len(c.Standbys), MaxStandbys)
	}
	if c.Stop != Fast && c.Stop != Clean {
		bad("stop %q: want %s or %s", c.Stop, Fast, Clean)
	}
	if c.Transactions != Wait && c.Transactions != Cancel && c.Transactions != Abort {
		bad("transactions %q: want %s, %s or %s", c.Transactions, Wait, Cancel, Abort)
	}
	return errors.Join(errs...)
}

// slotName is the replication slot of an instance, within PostgreSQL's alphabet
// and length for such names.
func slotName(instance string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, instance)
	return slotPrefix + name[:min(len(name), 50)]
}
