package shop

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Now returns raw CLOCK_MONOTONIC in nanoseconds. Unlike Go's monotonic
// time, which counts from the start of each process, it can be compared
// between all processes of a machine.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("read CLOCK_MONOTONIC: " + err.Error()) // the kernel always has it
	}
	return ts.Nano()
}

// Write is one order written. Begin and End are raw CLOCK_MONOTONIC, in
// nanoseconds, and both lie inside the time the request was admitted.
type Write struct {
	ID    string
	Term  uint64
	Begin int64
	End   int64
}

// WriteLog is the truth about which writes an instance made: JSON lines, one
// write(2) each, appended before the write is answered. A crash of the
// process loses nothing that was answered; a crash of the machine may.
type WriteLog struct {
	tail string // constant end of each line

	mu   sync.Mutex
	file *os.File
	line []byte
}

// OpenWriteLog opens or creates the log at path. A last line that an earlier
// process did not finish was never answered, and is cut off.
func OpenWriteLog(path, service, instance, dataCenter string) (*WriteLog, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open write log: %w", err)
	}
	if err := cutUnfinished(file); err != nil {
		return nil, fmt.Errorf("repair write log %s: %w", path, errors.Join(err, file.Close()))
	}
	tail := fmt.Sprintf(`,"service":%q,"instance":%q,"data_center":%q}`+"\n", service, instance, dataCenter)
	return &WriteLog{file: file, tail: tail}, nil
}

func cutUnfinished(file *os.File) error {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	var last [1]byte
	for end := size; end > 0; end-- {
		if _, err := file.ReadAt(last[:], end-1); err != nil {
			return err
		}
		if last[0] == '\n' {
			if end == size {
				return nil
			}
			return file.Truncate(end)
		}
	}
	return file.Truncate(0)
}

// Append writes one line. When it fails the write must not be answered as
// made.
func (l *WriteLog) Append(w Write) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := append(l.line[:0], `{"id":`...)
	b = strconv.AppendQuote(b, w.ID)
	b = append(b, `,"term":`...)
	b = strconv.AppendUint(b, w.Term, 10)
	b = append(b, `,"begin_ns":`...)
	b = strconv.AppendInt(b, w.Begin, 10)
	b = append(b, `,"end_ns":`...)
	b = strconv.AppendInt(b, w.End, 10)
	b = append(b, l.tail...)
	l.line = b
	if _, err := l.file.Write(b); err != nil {
		return fmt.Errorf("append to write log: %w", err)
	}
	return nil
}

// Close closes the file.
func (l *WriteLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
