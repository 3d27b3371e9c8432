package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
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
	busyBefore          time.Duration
}

// busy is the processor time that the whole machine has used, over all cores.
func busy() time.Duration {
	fields := strings.Fields(firstLine("/proc/stat")) // cpu user nice system idle iowait irq softirq steal ..., in 1/100 s
	var sum int64
	for i, text := range fields {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && i != 4 && i != 5 && i < 8 {
			sum += n
		}
	}
	return time.Duration(sum) * 10 * time.Millisecond
}

// ours is the processor time of this process and of those that it started and that have ended.
func ours() (sum time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// shares says how much of the machine this run and others used, all cores being 100%.
func (m *machine) shares() string {
	all := time.Since(m.began).Seconds() * float64(max(m.cores, 1))
	own := ours().Seconds()
	return fmt.Sprintf("of the machine's processor time %.0f%% went to this run and %.0f%% to what else ran on it",
		100*own/all, 100*max(0, (busy()-m.busyBefore).Seconds()-own)/all)
}

func look(ctx context.Context, o options) (*machine, error) {
	m := &machine{
		began: time.Now(), cpu: field("/proc/cpuinfo", "model name"), cores: runtime.NumCPU(), memory: field("/proc/meminfo", "MemTotal"),
		kernel: firstLine("/proc/sys/kernel/osrelease"), loadBefore: firstLine("/proc/loadavg"), busyBefore: busy(),
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
	return fmt.Sprintf(`- machine: %s, %d cores, %s of memory, Linux %s; everything on it
- versions: Signalbox %s, %s, Envoy %s with one thread each, %s
- %s, %s long; load average before %s, after %s
- %s
`, m.cpu, m.cores, m.memory, m.kernel, m.version, goVersion, m.envoy, m.haproxy,
		m.began.UTC().Format(time.DateOnly), time.Since(m.began).Round(time.Second), m.loadBefore, firstLine("/proc/loadavg"), m.shares())
}
