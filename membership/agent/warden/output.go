package warden

import (
	"fmt"
	"io"
	"os"
)

const (
	// MaxOutput is how large the file of a service's output grows, in bytes: the
	// newest MaxOutput bytes are kept in a second file, named .1, and it begins
	// anew.
	MaxOutput = 64 << 20
	// MaxLog is the same for a warden's own log.
	MaxLog = 1 << 20
)

// OpenOutput opens a file for appending; one larger than limit bytes is begun
// anew, and what it had last is kept in a second file, named .1.
func OpenOutput(path string, limit int64) (*os.File, error) {
	if err := rotate(path, limit); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// rotate moves the content of a file that has grown aside. Who has it open for
// appending goes on at its begin; what is written meanwhile may be lost.
func rotate(path string, limit int64) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open output: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() <= limit {
		return err
	}
	if _, err := file.Seek(-limit, io.SeekEnd); err != nil {
		return fmt.Errorf("rotate output: %w", err)
	}
	old, err := os.OpenFile(path+".1", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("rotate output: %w", err)
	}
	_, err = io.Copy(old, io.LimitReader(file, limit))
	if closed := old.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("rotate output: %w", err)
	}
	return file.Truncate(0)
}
