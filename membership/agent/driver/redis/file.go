package redis

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

// The master of a server that has none: nobody listens on loopback's port 1. A
// replica of it takes no write, goes on feeding its own replicas, and keeps its
// replication history.
const (
	nowhereHost = "127.0.0.1"
	nowherePort = "1"
)

const (
	closedLine = "replicaof " + nowhereHost + " " + nowherePort + "\n"
	closedNote = "\n# Signalbox: a server that is started takes no write until its agent promotes it.\n"
	// maxFile bounds what is read of a configuration file, in bytes.
	maxFile = 4 << 20
)

// startsClosed reports whether a server with this configuration starts as a
// replica. The last word wins, as it does in Redis.
func startsClosed(config []byte) bool {
	closed := false
	for _, line := range strings.Split(string(config), "\n") {
		words := strings.Fields(line)
		if len(words) != 3 {
			continue
		}
		switch strings.ToLower(strings.Trim(words[0], `"'`)) {
		case "replicaof", "slaveof":
			closed = !strings.EqualFold(words[1], "no")
		}
	}
	return closed
}

// closeFile makes the server's next start, whoever starts it, one as a replica.
// It is durable when closeFile returns. Redis rewrites the file without that line
// when a person has it do so while it is master, so it is looked at again.
func (d *Driver) closeFile() error {
	info, err := os.Stat(d.cfg.File)
	if err != nil {
		return fmt.Errorf("close configuration file: %w", err)
	}
	if info.Size() > maxFile {
		return fmt.Errorf("close configuration file: it has %d bytes: want %d at most", info.Size(), maxFile)
	}
	d.mu.Lock()
	known := d.closed != nil && d.closed.ModTime().Equal(info.ModTime()) && d.closed.Size() == info.Size() && os.SameFile(d.closed, info)
	d.mu.Unlock()
	if known {
		return nil
	}
	config, err := os.ReadFile(d.cfg.File)
	if err != nil {
		return fmt.Errorf("close configuration file: %w", err)
	}
	if startsClosed(config) {
		// It may have been rewritten a moment ago, by Redis, which does not sync the directory.
		err = managed.Sync(d.cfg.File, filepath.Dir(d.cfg.File))
	} else {
		config = append(bytes.TrimRight(config, "\n"), closedNote+closedLine...)
		var as *syscall.Credential
		if s, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
			as = &syscall.Credential{Uid: s.Uid, Gid: s.Gid}
		}
		err = managed.ReplaceFile(d.cfg.File, config, info.Mode().Perm(), as)
	}
	if err != nil {
		return fmt.Errorf("close configuration file: %w", err)
	}
	if info, err = os.Stat(d.cfg.File); err != nil {
		return fmt.Errorf("close configuration file: %w", err)
	}
	d.mu.Lock()
	d.closed = info
	d.mu.Unlock()
	return nil
}
