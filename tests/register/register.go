// Package register asks porcupine, a linearizability checker, whether what clients were answered is the history of one register:
// of who is master, with its term. Package tests/oracle looks at the same records with rules of its own.
//
// A request that was served read the register at some moment between its sending and its answer. The register may change its data
// center only to a higher term. Within one data center a lower term may be read after a higher one: when a handover falls back, its
// instances take the new term one after the other.
package register

import (
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/signalbox-io/signalbox/tests/oracle"
)

// Reading is one served request: when it was sent and answered, and who served it at what term.
type Reading struct {
	Begin, End int64
	DataCenter string
	Term       uint64
}

// master is the register's state, and what a request read.
type master struct {
	dataCenter string
	term       uint64
}

var model = porcupine.Model{
	Init: func() any { return master{} },
	Step: func(state, _, output any) (bool, any) {
		now, read := state.(master), output.(master)
		if read.dataCenter == now.dataCenter {
			return true, master{now.dataCenter, max(now.term, read.term)}
		}
		return read.term > now.term, read
	},
}

// One reports whether the readings, all of one service, are those of one register. known is false when the checker has not found
// out in time.
func One(readings []Reading, most time.Duration) (one, known bool) {
	ops := make([]porcupine.Operation, 0, len(readings))
	for _, r := range readings {
		ops = append(ops, porcupine.Operation{Call: r.Begin, Return: r.End, Output: master{r.DataCenter, r.Term}})
	}
	switch porcupine.CheckOperationsTimeout(model, ops, most) {
	case porcupine.Ok:
		return true, true
	case porcupine.Illegal:
		return false, true
	}
	return false, false
}

// longest is how many readings of a recorded history are looked at together: the checker keeps a bit of each for every state.
const longest = 4000

// Recorded is One for a history as tests/oracle reads it, of one service. A long one is looked at in parts that overlap by half.
func Recorded(h oracle.History, most time.Duration) (one, known bool) {
	owner := map[uint64]string{}
	for _, c := range h.Certified {
		owner[c.Term] = c.DataCenter
	}
	for i := range h.Writes {
		if w := &h.Writes[i]; owner[w.Term] == "" {
			owner[w.Term] = w.DataCenter
		}
	}
	var all []Reading
	for i := range h.Requests {
		r := &h.Requests[i]
		if dc := owner[r.Term]; dc != "" && r.Error == "" && r.Status > 0 && r.Status < 500 {
			all = append(all, Reading{r.Begin, r.End, dc, r.Term})
		}
	}
	slices.SortFunc(all, func(a, b Reading) int { return int(a.Begin - b.Begin) })
	one, known = true, true
	for at := 0; one && known; at += longest / 2 {
		one, known = One(all[at:min(at+longest, len(all))], most)
		if at+longest >= len(all) {
			break
		}
	}
	return one, known
}
