package execdriver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/signalbox-io/signalbox"
)

// recordName is the driver's file.
const recordName = "exec.json"

// record is what the driver must not forget.
type record struct {
	// Newest is the newest term that the instance was to serve.
	Newest signalbox.Term `json:"newest"`
	// Open is true from before a promotion to after a step-down.
	Open bool `json:"open"`
	// Position is what its data had reached at the last step-down; empty after a
	// promotion, and for a standby.
	Position string `json:"position,omitempty"`
}

func readRecord(dir string) (r record, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read the driver's record: %w", err)
	}
	return r, nil
}

// write makes a record durable, then the driver's own.
func (d *Driver) write(r record) error {
	d.mu.Lock()
	same := d.rec == r
	d.mu.Unlock()
	if same {
		return nil
	}
	raw, _ := json.Marshal(r) // numbers and strings always encode
	path := filepath.Join(d.opt.Dir, recordName)
	err := func() error {
		file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = file.Write(raw)
		if err == nil {
			err = file.Sync()
		}
		return errors.Join(err, file.Close())
	}()
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(d.opt.Dir)
	}
	if err != nil {
		return fmt.Errorf("write the driver's record: %w", err)
	}
	d.mu.Lock()
	d.rec = r
	d.mu.Unlock()
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
