package redis

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/signalbox-io/signalbox"
)

// role is what the driver last made of its server.
type role string

const (
	roleNone   role = ""       // nothing yet
	roleMaster role = "master" // promoted, or about to be
	roleClosed role = "closed" // stepped down
	roleFollow role = "follow" // replica of somebody
)

// memory is what the driver must know after it was started again.
type memory struct {
	Role role           `json:"role"`
	Term signalbox.Term `json:"term"` // the newest that it served
	// Run is the run of the server that was promoted: another one has crashed
	// since, and may have lost what was not on its disk.
	Run string `json:"run,omitempty"`
	// Position is where its data ended when it stepped down; "" when it was no
	// master since it last followed one. Boot is the start of the machine then.
	Position string `json:"position,omitempty"`
	Boot     string `json:"boot,omitempty"`
	// Upstream is the master that it follows, host:port.
	Upstream string `json:"upstream,omitempty"`
	// Leases is true once a lease was given: then the server ends with its warden.
	Leases bool `json:"leases,omitempty"`
	// Loss is what the last full synchronization took back, for people.
	Loss *Loss `json:"loss,omitempty"`
}

// Loss is what an old master had that its successor has not.
type Loss struct {
	// Bytes of the replication stream; 0 when it was started again since and
	// nobody knows.
	Bytes uint64 `json:"bytes"`
	// Kept is the directory with the files of the data as it was, "" for none.
	Kept string `json:"kept,omitempty"`
}

const (
	memoryFile = "redis.json"
	maxMemory  = 64 << 10
)

func loadMemory(dir string) (memory, error) {
	raw, err := os.ReadFile(filepath.Join(dir, memoryFile))
	if errors.Is(err, fs.ErrNotExist) {
		return memory{}, nil
	}
	if err != nil {
		return memory{}, fmt.Errorf("read driver state: %w", err)
	}
	var m memory
	if len(raw) > maxMemory || json.Unmarshal(raw, &m) != nil {
		return memory{}, fmt.Errorf("%w: driver state %s is damaged: step the service down elsewhere, then remove it",
			signalbox.ErrInvalid, filepath.Join(dir, memoryFile))
	}
	return m, nil
}

// save writes the state so that it is on the disk when save returns.
func (m memory) save(dir string) error {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write driver state: %w", err)
	}
	if err := replaceFile(filepath.Join(dir, memoryFile), append(raw, '\n'), 0o600, -1, -1); err != nil {
		return fmt.Errorf("write driver state: %w", err)
	}
	return nil
}

// replaceFile replaces a file as a whole and durably. Owner and group of -1 stay
// this process's.
func replaceFile(path string, content []byte, mode fs.FileMode, uid, gid int) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil && uid >= 0 {
		err = f.Chown(uid, gid)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// bootID names the start of the machine, "" where nobody knows.
func bootID() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(raw) < 36 {
		return ""
	}
	return string(raw[:36])
}
