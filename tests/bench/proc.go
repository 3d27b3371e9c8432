package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// field returns the value of a "Key: value" or "Key value" line of a file of /proc; "" when there is none.
func field(path, key string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// rssAnon is the anonymous resident memory of a process, in bytes: what it alone holds, without mapped files.
func rssAnon(pid int) (int64, error) {
	text := field(fmt.Sprintf("/proc/%d/status", pid), "RssAnon")
	n, err := strconv.ParseInt(strings.TrimSuffix(text, " kB"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: RssAnon %q: %w", pid, text, err)
	}
	return n << 10, nil
}

// cpu is what all threads of a process have run so far. A thread that ended in between is not counted any more; Go keeps
// its threads.
func cpu(pid int) (time.Duration, error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(paths) == 0 {
		return 0, fmt.Errorf("read processor time of process %d: no threads in /proc: %w", pid, err)
	}
	var all time.Duration
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return 0, err
		}
		ran, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(ran, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
		all += time.Duration(n)
	}
	return all, nil
}
