package coordinator

import (
	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
)

// skip takes in what the log says now in the place of blocks up to an index, which
// are not here (any more): a snapshot stands for them. What follows them comes as
// always, and may repeat what is told here.
func (c *Coordinator) skip(to uint64) {
	c.applied = to
	for _, s := range c.services {
		var cert *signalbox.Certificate
		open := map[signalbox.Digest]*signalbox.DecidedBlock{}
		var inOrder []*signalbox.DecidedBlock
		c.opt.Journal.View(func(l *handover.Ledger) {
			st := l.Service(s.conf.Name)
			if st == nil {
				return
			}
			cert = st.Certificate
			for _, b := range st.Open {
				open[b.Digest] = b
				inOrder = append(inOrder, b)
			}
		})
		for _, b := range inOrder {
			if h := b.Handover(s.conf.Name); b.Index <= to && !s.machine.Runs(b.Digest) {
				c.openRecord(s, b, h)
				c.step(s, handover.Decided{Block: b, Resumed: true})
			}
		}
		c.certifiedByLog(s)
		c.endSkipped(s, open, cert)
		for id, i := range s.instances {
			c.keepIncarnation(id)
			if i.local {
				delete(s.admitting, id)
				c.grant(s, id)
			}
		}
		c.refresh(s)
	}
	c.keepMissing(to)
}

// endSkipped ends the runs whose outcome is in what was skipped. Where that was
// not the newest certificate, only the log's few words on what came of it are
// known here: the whole record is left to the gateways that saw it.
func (c *Coordinator) endSkipped(s *service, open map[signalbox.Digest]*signalbox.DecidedBlock, cert *signalbox.Certificate) {
	for digest, r := range s.records {
		switch {
		case open[digest] != nil || r.view.Certificate != nil:
		case cert != nil && cert.Block.Digest == digest:
			r.certified(cert)
		default:
			c.opt.Logger.Warn().Str("handover", r.view.ID).Str("service", string(s.conf.Name)).
				Msg("it ended while this gateway was away for long: look at another gateway's record of it")
			delete(s.records, digest)
		}
	}
	for _, run := range s.machine.Status(c.opt.Now()) {
		if open[run.Block.Digest] != nil {
			continue
		}
		ended := handover.Logged{Block: run.Block.Digest}
		if cert != nil && cert.Block.Digest == run.Block.Digest {
			ended.Certified = cert.Term
		}
		c.step(s, ended)
	}
}
