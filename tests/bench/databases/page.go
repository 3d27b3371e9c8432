package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo/database"
	"github.com/signalbox-io/signalbox/examples/inserts"
)

// The goals, in milliseconds.
const (
	goalFast  = 300
	goalClean = 800
	goalRedis = 30
)

// goalWritable is when the new master takes writes after everything in the old
// one's data center was killed.
const goalWritable = float64((database.TTL + time.Second) / time.Millisecond)

// machine is where and what was measured.
type machine struct {
	began               time.Time
	cpu, memory, kernel string
	load                string
	versions            []string
}

func look(ctx context.Context, envoy string) *machine {
	m := &machine{
		began: time.Now(), cpu: after("/proc/cpuinfo", "model name"), memory: after("/proc/meminfo", "MemTotal"), kernel: first("/proc/sys/kernel/osrelease"),
		load: first("/proc/loadavg"),
	}
	for _, c := range []struct{ name, command, arg string }{
		{"Signalbox", "git", "describe --tags --always --dirty"}, {"", "pg_config", "--version"}, {"", "redis-server", "--version"}, {"", envoy, "--version"},
		{"", "patroni", "--version"}, {"", "pgbouncer", "--version"}, {"", "haproxy", "-v"}, {"", "etcd", "--version"},
	} {
		out, err := exec.CommandContext(ctx, c.command, strings.Fields(c.arg)...).Output()
		if err != nil {
			continue // it is not here, and so not measured
		}
		text, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		text, _, _ = strings.Cut(text, " - ")
		if text, found := strings.CutPrefix(text, envoy); found { // "envoy  version: commit/version/clean/RELEASE/TLS library"
			if parts := strings.Split(text, "/"); len(parts) > 1 {
				m.versions = append(m.versions, "Envoy "+parts[1])
			}
			continue
		}
		text, _, _ = strings.Cut(text, " sha=")
		m.versions = append(m.versions, strings.TrimSpace(c.name+" "+text))
	}
	return m
}

func first(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	text, _, _ := strings.Cut(string(raw), "\n")
	return text
}

// after is what stands behind the first field of a name.
func after(path, field string) string {
	raw, _ := os.ReadFile(path) // then there is none
	for line := range strings.Lines(string(raw)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == field {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// text is the page.
func (r *result) text() string {
	var b strings.Builder
	m := r.machine
	fmt.Fprintf(&b, `# What it costs to move a database

Measured by %[1]smake bench-databases%[1]s, which writes this file. Each contender has the same load, one after the other on one machine:
%d connections, each of which inserts a row every %s and connects anew when it is cut.

    make bench-databases BENCH_FLAGS='%s'

- machine: %s, %d cores, %s of memory, Linux %s; everything on loopback
- versions: %s
- %s, %s long; load average before %s, after %s

*Write outage* is the longest time in which no row was acknowledged to anybody. *Lost* rows were acknowledged and are not on the last
master. Half of the switches are the way back, which is the same. Missed goals are in bold.
`, "`", inserts.Writers, strings.Replace(inserts.Every.String(), "ms", " ms", 1), strings.Join(os.Args[1:], " "), m.cpu, runtime.NumCPU(), m.memory, m.kernel, strings.Join(m.versions, ", "),
		m.began.UTC().Format(time.DateOnly), time.Since(m.began).Round(time.Second), m.load, first("/proc/loadavg"))
	if len(r.Switches) > 0 {
		b.WriteString("\n## Planned\n\n" +
			"| contender | switches | given up | outage median, ms | min | max | failed statements per switch | most | failed connects per switch | rows | lost | lost, connected straight | two masters, ms |\n" +
			"| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
		for i := range r.Switches {
			b.WriteString(r.Switches[i].row())
		}
		b.WriteString("\n*Connected straight*: one more client for each Redis server, past the proxies, which writes to its server whenever it may. *Two masters*: how long\n" +
			"both servers acknowledged to them, the mean per switch. PostgreSQL is stopped, so nobody can be connected to it.\n")
	}
	if len(r.Outages) > 0 {
		fmt.Fprintf(&b, "\n## Unplanned\n\nEverything in the master's data center is killed at once with SIGKILL: the server, its warden, its agent, the gateway (one of three\n"+
			"voters) and Envoy. The failover begins by itself after 2 s of silence and goes by lapse; leases last %s. *Writable*: from the first kill to the\n"+
			"first row that the new master acknowledged to a client behind the proxies. The dead data center comes back each time and follows, and is\n"+
			"killed itself when it is master again.\n\n"+
			"| contender | times | writable median, ms | min | max | rows acknowledged before | lost of them | taken by the old master after | follows again, median ms |\n"+
			"| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n", database.TTL)
		for i := range r.Outages {
			b.WriteString(r.Outages[i].row())
		}
		b.WriteString("\nReplication is asynchronous, so a row may be lost that was acknowledged and not yet sent; the cutover report says how much.\n\nAll times in ms:\n\n")
		for i := range r.Outages {
			fmt.Fprintf(&b, "- %s: %s\n", r.Outages[i].Name, strings.Trim(strings.Join(strings.Fields(fmt.Sprintf("%.0f", r.Outages[i].Writable)), ", "), "[]"))
		}
	}
	return b.String()
}

// judged writes a figure with its goal.
func judged(figure string, met bool, goal string) string {
	if met {
		return figure + " (goal " + goal + ": met)"
	}
	return "**" + figure + " (goal " + goal + ": missed)**"
}

func (f *figures) row() string {
	median, most, connects, lost := fmt.Sprintf("%.0f", f.Median), fmt.Sprint(f.MostStatements), fmt.Sprintf("%.1f", f.Connects), fmt.Sprint(f.Lost)
	straight, two := fmt.Sprint(f.LostStraight), fmt.Sprintf("%.0f", f.TwoMasters)
	goal := map[string]float64{"signalbox fast": goalFast, "signalbox clean": goalClean, "signalbox redis": goalRedis}[f.Name]
	if goal > 0 {
		ran := f.Switches > f.Failed && f.Error == ""
		median = judged(median, ran && f.Median <= goal, fmt.Sprintf("%.0f", goal))
		most = judged(most, ran && f.MostStatements <= inserts.Writers, fmt.Sprint(inserts.Writers))
		connects, lost = judged(connects, ran && f.Connects == 0, "0"), judged(lost, ran && f.Lost == 0, "0")
		if goal == goalRedis {
			straight, two = judged(straight, ran && f.LostStraight == 0, "0"), judged(two, ran && f.TwoMasters == 0, "0")
		}
	}
	if !strings.Contains(f.Name, "redis") {
		straight, two = "-", "-"
	}
	name := f.Name
	if f.Error != "" {
		name += " (ended early: " + strings.ReplaceAll(f.Error, "\n", " ") + ")"
	}
	return fmt.Sprintf("| %s | %d | %d | %s | %.0f | %.0f | %.1f | %s | %s | %d | %s | %s | %s |\n",
		name, f.Switches, f.Failed, median, f.Min, f.Max, f.Statements, most, connects, f.Rows, lost, straight, two)
}

func (k *outaged) row() string {
	name := k.Name
	if k.Error != "" {
		name += " (ended early: " + strings.ReplaceAll(k.Error, "\n", " ") + ")"
	}
	ran := len(k.Runs) > 0 && k.Error == ""
	return fmt.Sprintf("| %s | %d | %.0f | %.0f | %s | %d | %d | %s | %.0f |\n", name, len(k.Runs), k.at(0.5), k.at(0),
		judged(fmt.Sprintf("%.0f", k.at(1)), ran && k.at(1) <= goalWritable, fmt.Sprintf("%.0f", goalWritable)), k.Rows, k.Lost,
		judged(fmt.Sprint(k.Unfenced), ran && k.Unfenced == 0, "0"), k.Back)
}
