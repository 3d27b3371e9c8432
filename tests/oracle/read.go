package oracle

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"unique"
)

// Bounds of what is read.
const (
	MaxLine    = 64 << 10   // bytes
	MaxRecords = 20_000_000 // in one file
)

// Files names the records of one run.
type Files struct {
	WriteLogs []string // of instances
	LoadLogs  []string // of load generators; ids must differ between them
	Certified []Certified
}

// Read reads a history from files. A last line that its process did not
// finish is left out and counted; anything else that is no record is an
// error with file and line.
func Read(files Files) (History, error) {
	h := History{Certified: files.Certified}
	for _, name := range files.WriteLogs {
		err := readFile(name, &h, func(line []byte) error {
			var w Write
			if err := decode(line, &w); err != nil {
				return err
			}
			w.Service, w.Instance, w.DataCenter = share(w.Service), share(w.Instance), share(w.DataCenter)
			h.Writes = append(h.Writes, w)
			return nil
		})
		if err != nil {
			return History{}, err
		}
	}
	for _, name := range files.LoadLogs {
		err := readFile(name, &h, func(line []byte) error {
			var r Request
			if err := decode(line, &r); err != nil {
				return err
			}
			r.Method, r.Error, r.Instance = share(r.Method), share(r.Error), share(r.Instance)
			h.Requests = append(h.Requests, r)
			return nil
		})
		if err != nil {
			return History{}, err
		}
	}
	return h, nil
}

// share keeps one copy of a string that millions of records repeat.
func share(s string) string { return unique.Make(s).Value() }

func decode(line []byte, into any) error {
	if len(line) == 0 || line[0] != '{' {
		return errors.New("expected a JSON object")
	}
	return json.Unmarshal(line, into)
}

func readFile(name string, h *History, record func([]byte) error) error {
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	defer file.Close()
	truncated, err := readLines(file, record)
	if err != nil {
		return fmt.Errorf("read history: %s:%w", name, err)
	}
	if truncated {
		h.Truncated++
	}
	return nil
}

// readLines reports whether the last line was cut short: it has no end and is
// no record.
func readLines(r io.Reader, record func([]byte) error) (truncated bool, err error) {
	lines := bufio.NewReaderSize(r, MaxLine)
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return len(line) > 0 && record(line) != nil, nil
		case errors.Is(err, bufio.ErrBufferFull):
			return false, fmt.Errorf("%d: line is longer than %d bytes", number, MaxLine)
		case err != nil:
			return false, fmt.Errorf("%d: %w", number, err)
		case number > MaxRecords:
			return false, fmt.Errorf("%d: more than %d records", number, MaxRecords)
		}
		if err := record(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return false, fmt.Errorf("%d: %w", number, err)
		}
	}
}
