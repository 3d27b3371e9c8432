package coordinator

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// expectedView is what a driver says of a failover to its instance, as people
// see it.
func expectedView(e *wire.ExpectedLoss) *api.ExpectedLoss {
	if e == nil {
		return nil
	}
	v := &api.ExpectedLoss{Known: e.GetKnown(), Bytes: e.GetBytes(), AgeMS: e.GetAgeNano() / int64(time.Millisecond)}
	if e.GetLimited() {
		limit := e.GetLimit()
		v.Limit = &limit
	}
	return v
}

// expectedLoss is what a failover would lose, nil where nothing can be: the worst
// of who would become master.
func (c *Coordinator) expectedLoss(s *service, h *signalbox.Handover) (worst *api.ExpectedLoss) {
	for _, id := range h.Incoming {
		i := s.instances[id]
		if i == nil || i.newest() == nil {
			continue
		}
		v := expectedView(i.newest().status.GetExpected())
		if v == nil || worst != nil && (!worst.Known || v.Known && v.Bytes <= worst.Bytes) {
			continue
		}
		v.Instance, worst = i.Name, v
	}
	return worst
}

// lossChecks say what a failover would lose, and refuse more than its driver
// would promote with: a failover cannot be given up once it has begun.
func lossChecks(e *api.ExpectedLoss, waits []api.EvidenceWait) []api.Check {
	if e == nil {
		return nil
	}
	silent := false
	for _, w := range waits {
		silent = silent || w.Silent
	}
	check := api.Check{Name: "expected-loss", OK: true, Detail: e.Words()}
	if !silent {
		check.Detail = "nothing, if the old master gives its own evidence; else " + check.Detail
	}
	if e.TooMuch() {
		check.OK, check.Blocking = false, silent
		check.Do = fmt.Sprintf("bring the old master back, or its data; to go on with that loss, raise max_loss at %s and restart its agent", e.Instance)
	}
	return []api.Check{check}
}

// lostKey is one old master's loss of one term.
type lostKey struct {
	id   signalbox.Identity
	term uint64
}

// maxLosses bounds for how many losses it is kept that their records have them.
const maxLosses = 1024

// heardLost keeps what an old master lost in the record of the handover that took
// the service from it.
func (c *Coordinator) heardLost(s *service, i *instance, l *wire.Lost) {
	key := lostKey{i.Identity, l.GetTerm()}
	if l == nil || l.GetTerm() == 0 || c.lost[key] {
		return
	}
	if len(c.lost) >= maxLosses {
		clear(c.lost)
	}
	c.lost[key] = true
	lost := api.Lost{
		Instance: i.Name, At: c.opt.Now(), Known: l.GetKnown(), Bytes: l.GetBytes(), Writes: l.GetWrites(), Kept: l.GetKept(),
	}
	dc, name := string(i.DataCenter), string(s.conf.Name)
	for _, r := range s.records { // not closed yet
		if r.view.CertifiedTerm > key.term && r.view.From == dc && r.view.ExpectedLoss != nil {
			r.view.Lost = addLost(r.view.Lost, lost)
			return
		}
	}
	for _, h := range s.closed { // about to be written
		if h.CertifiedTerm > key.term && h.From == dc {
			delete(c.lost, key) // at the next status
			return
		}
	}
	c.later(func() error { return c.keepLost(name, dc, key.term, lost) })
}

// keepLost adds a loss to a record on the disk: of the handover that followed the
// term, away from the data center, where its own evidence was not the only kind.
func (c *Coordinator) keepLost(name, dc string, term uint64, lost api.Lost) error {
	var found *api.Handover
	err := c.opt.Journal.Records(func(_ string, raw []byte) bool {
		var h api.Handover
		if json.Unmarshal(raw, &h) != nil || h.Service != name || h.CertifiedTerm == 0 {
			return true
		}
		if h.CertifiedTerm <= term {
			return false
		}
		found = nil
		if h.From == dc && h.Allowed != signalbox.AckOnly.String() {
			found = &h
		}
		return true
	})
	if err != nil || found == nil {
		return err
	}
	all := addLost(found.Lost, lost)
	if len(all) == len(found.Lost) {
		return nil
	}
	found.Lost = all
	raw, err := json.Marshal(found)
	if err != nil {
		return fmt.Errorf("keep what was lost: %w", err)
	}
	c.opt.Logger.Warn().Str("handover", found.ID).Str("instance", lost.Instance).Uint64("bytes", lost.Bytes).Msg(lost.Words())
	return c.opt.Journal.PutRecord(found.ID, found.Started, raw)
}

func addLost(all []api.Lost, one api.Lost) []api.Lost {
	for _, l := range all {
		if l.Instance == one.Instance {
			return all
		}
	}
	return append(all, one)
}
