package postgres

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
	roleNone role = "" // nothing yet
	// rolePromoting is from before a promotion until it is noted that it went
	// well: the server itself says which.
	rolePromoting role = "promoting"
	rolePrimary   role = "primary" // promoted
	roleClosed    role = "closed"  // stepped down
	roleStandby   role = "standby" // follows
)

// memory is what the driver must know after it was started again.
type memory struct {
	Role role           `json:"role"`
	Term signalbox.Term `json:"term"` // the newest that it served
	// Position is where its data ended when it stepped down; "" when it was no
	// primary since it last followed one.
	Position string `json:"position,omitempty"`
	// Upstream is the primary that it follows, host:port.
	Upstream string `json:"upstream,omitempty"`
	// Rewinding is true from before pg_rewind begins until it has ended well.
	Rewinding bool `json:"rewinding,omitempty"`
	// Loss is what the last rewind took back, for people.
	Loss *Loss `json:"loss,omitempty"`
}

// Loss is what an old primary had that its successor has not.
type Loss struct {
	Timeline     uint32 `json:"timeline"`
	From         string `json:"from"` // log positions
	To           string `json:"to"`
	Bytes        uint64 `json:"bytes"`
	Transactions int    `json:"transactions"` // committed ones
	// Kept is the directory that holds the log of them.
	Kept string `json:"kept,omitempty"`
}

const (
	memoryFile = "postgres.json"
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
	if err := writeFile(filepath.Join(dir, memoryFile), append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("write driver state: %w", err)
	}
	return nil
}

// writeFile replaces a file as a whole and durably.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
