package main

import (
	"fmt"
	"strings"
)

const intro = `# What a switch costs

Measured by ` + "`make bench`" + `, which writes this file. All systems of one configuration run side by side, in turns of up to %d switches,
with the same load on the same number of proxies, half of the Envoys and of the load in each data center.

    %s

%s
An interruption lasts from the first request that was parked to the first answer of the new master, as the load generator saw it.
Half of the requests are writes; slow ones are left out where nothing else is said. *Added p99* is that of all requests that met a
hold, from when they were due, less the median of the 5 s before. Of %d switches, p99 is %s.

*floor*: hold and release by bare xDS pushes from one server: routes to a name that does not exist, all Envoys' ACKs, the new
endpoints. The new side is promoted beforehand and the old one not asked to step down; no TLS, journal, signatures or acks.
*floor, instances obey*: the same, with the old side stepped down and the new one promoted in between over HTTP: the least that a
switch costs that lets requests finish and has one master. *Signalbox*: all of it, with two gateways in each data center, three
instances each, the Go library in east and the HTTP driver in west. *Overlap* is the time in which instances of both data centers
wrote, by their own logs.

`

const mainHead = `| configuration | system | switches | median, ms | p99, ms | min | max | median to floor | median over floor, ms | p99 over floor, ms | added p99, ms | requests | failed | overlap, ms |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
`

const phasesHead = `
## Where the time goes

Phases of the cutover records, median / p99 in milliseconds. Prepare and settle are outside of the interruption.

| configuration | system | direction | interruption | hold | drain | ack | seal | promote | release |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
`

const outagesHead = `
## When a data center dies

Three data centers with one voter each, leases of 3 s (evidence lapse). Everything in the master's is killed at once with SIGKILL:
gateways with a voter, agents, instances, Envoys; then it is brought back, and the other one is next. Milliseconds from the kill to
the first answer of the new master through an Envoy of the living side, by the load generator (200/s). *Agreed* is when the
failover was decided, *certified* when every dead instance's lapse was signed; both from the kill, median / max.
What reaches no instance is tried again by the Envoys until the new master answers; *failed* is what the old one had taken before it died.

| failover | runs | min | median | p99 | max | agreed | certified | requests | failed | overlap, ms |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
`

const restHead = `
## The rest

| what | figure | judged |
| --- | ---: | ---: |
`

// finish is the whole text.
func (r *report) finish() string {
	var b strings.Builder
	p99 := "the largest"
	if r.o.switches > 100 {
		p99 = "the nearest rank"
	}
	if r.o.only[sectionWAN] {
		fmt.Fprintf(&b, introWAN, wanDelay, r.o.command, r.machine, r.o.switches, p99)
	} else {
		fmt.Fprintf(&b, intro, perTurn, r.o.command, r.machine, r.o.switches, p99)
	}
	section := func(head string, lines []string) {
		if len(lines) > 0 {
			b.WriteString(head + strings.Join(lines, ""))
		}
	}
	section(wanHead, r.wan)
	section(mainHead, r.rows)
	section(phasesHead, r.phases)
	section(outagesHead, r.outages)
	section(restHead, r.rest)
	list := func(head string, items []string) {
		if len(items) == 0 {
			return
		}
		b.WriteString("\n" + head + "\n\n")
		for _, item := range items {
			b.WriteString("- " + item + "\n")
		}
	}
	list("## Missed goals", r.missed)
	list("## Notes", r.notes)
	return b.String()
}
