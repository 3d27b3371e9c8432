package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// machine is where and what was measured.
type machine struct {
	began               time.Time
	cpu, kernel, memory string
	cores               int
	envoy, haproxy      string
	version             string
	loadBefore          string
}

func look(ctx context.Context, o options) (*machine, error) {
	m := &machine{
		began: time.Now(), cpu: field("/proc/cpuinfo", "model name"), cores: runtime.NumCPU(), memory: field("/proc/meminfo", "MemTotal"),
		kernel: firstLine("/proc/sys/kernel/osrelease"), loadBefore: firstLine("/proc/loadavg"),
		version: says(ctx, "git", "describe", "--tags", "--always", "--dirty"), haproxy: says(ctx, "haproxy", "-v"),
	}
	envoy, err := exec.CommandContext(ctx, o.binaries.Envoy, "--version").Output()
	if err != nil {
		return m, fmt.Errorf("ask Envoy for its version: %w", err)
	}
	_, words, _ := strings.Cut(string(envoy), "version:")
	if parts := strings.Split(strings.TrimSpace(words), "/"); len(parts) > 1 {
		m.envoy = parts[1] // commit/version/clean/RELEASE/TLS library
	}
	return m, nil
}

// says is the first line of a command's output, up to a second sentence; "unknown" where it does not run.
func says(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "unknown"
	}
	text, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	text, _, _ = strings.Cut(text, " - ")
	return text
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	out, _, _ := strings.Cut(string(text), "\n")
	return out
}

func (m *machine) String() string {
	info, _ := debug.ReadBuildInfo() // nil where there is none
	goVersion := runtime.Version()
	if info != nil {
		goVersion = info.GoVersion
	}
	return fmt.Sprintf(`- machine: %s, %d cores, %s of memory, Linux %s; everything on loopback
- versions: Signalbox %s, %s, Envoy %s with one thread each, %s
- %s, %s long; load average before %s, after %s
`, m.cpu, m.cores, m.memory, m.kernel, m.version, goVersion, m.envoy, m.haproxy,
		m.began.UTC().Format(time.DateOnly), time.Since(m.began).Round(time.Second), m.loadBefore, firstLine("/proc/loadavg"))
}
