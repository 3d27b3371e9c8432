package managed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/signalbox-io/signalbox"
)

// maxMemory bounds the file of a driver's memory, in bytes.
const maxMemory = 64 << 10

// Memory is what a driver must know after it was started again: a JSON file.
// Safe for concurrent use.
type Memory[T any] struct {
	path string

	changing sync.Mutex // one change at a time, guards written; taken before mu
	written  []byte     // by this process, and on the disk
	mu       sync.Mutex // guards now
	now      T
}

// OpenMemory reads a driver's memory; one that is not there yet is empty. The
// error says what to do about a damaged one.
func OpenMemory[T any](path string) (*Memory[T], error) {
	m := &Memory[T]{path: path}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read driver state: %w", err)
	}
	if len(raw) > maxMemory || json.Unmarshal(raw, &m.now) != nil {
		return nil, fmt.Errorf("%w: driver state %s is damaged: step the service down elsewhere, then remove it", signalbox.ErrInvalid, path)
	}
	return m, nil
}

// Get is what the driver knows.
func (m *Memory[T]) Get() T {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Change changes what the driver knows, on the disk first. What is as it was
// written already is not written again.
func (m *Memory[T]) Change(change func(*T)) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	next := m.Get()
	change(&next)
	raw, err := json.MarshalIndent(next, "", "  ")
	if err == nil && !bytes.Equal(raw, m.written) {
		m.written = nil
		err = ReplaceFile(m.path, append(raw, '\n'), 0o600, nil)
	}
	if err != nil {
		return fmt.Errorf("write driver state: %w", err)
	}
	m.written = raw
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = next
	return nil
}

// ReplaceFile replaces a file as a whole and durably. as is whose it becomes;
// nil: this process's.
func ReplaceFile(path string, content []byte, mode fs.FileMode, as *syscall.Credential) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil && as != nil {
		err = f.Chown(int(as.Uid), int(as.Gid))
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
	return Sync(filepath.Dir(path))
}

// Sync has files on the disk, and the names in directories.
func Sync(paths ...string) error {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Tail is the end of a file, at most so many bytes; where it cannot be read, why.
func Tail(path string, most int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-most):])
}
