package agent

import (
	"bytes"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// onGranted takes a certificate and an admission. Both prove themselves; who
// brought them does not matter.
func (c *core) onGranted(ev granted, now time.Time) {
	if len(ev.certificate) > 0 && (c.cert == nil || !bytes.Equal(ev.certificate, c.cert.Raw)) {
		c.onCertificate(ev.certificate, now)
	}
	if len(ev.admission) > 0 && !bytes.Equal(ev.admission, c.AdmittedBy) {
		c.onAdmission(ev.admission)
	}
	for _, s := range ev.serving {
		c.onServing(s)
	}
}

func (c *core) onCertificate(raw []byte, now time.Time) {
	cert, err := rpc.OpenCertificate(c.cfg.trust, raw)
	switch {
	case err != nil:
		c.emit(note{warn: true, refused: true, what: "certificate that does not verify", detail: err.Error()})
		return
	case cert.Service != c.cfg.instance.Service:
		c.emit(note{warn: true, refused: true, what: "certificate of another service", term: cert.Term, detail: string(cert.Service)})
		return
	case cert.Term < c.term():
		c.emit(note{what: "certificate below the one held", term: cert.Term})
		return
	case cert.Term == c.term():
		return
	}
	c.cert = cert
	c.help.masters = nil
	r := record{Certificate: raw, Admission: c.admission()}
	c.open = slices.DeleteFunc(c.open, func(p *pending) bool {
		moot := p.handover.Term <= cert.Term
		if moot {
			r.Settled = append(r.Settled, p.block.Digest)
		}
		return moot
	})
	// Not synced: one lost with the machine is granted again, and what it must
	// not undo (the floor) was synced with the ack.
	c.keep(r, false)
	c.emit(note{what: "certificate received for " + string(cert.DataCenter()), handover: cert.Handover().ID, term: cert.Term})
	c.wantAt = now // admission, if it is needed, at once
}

func (c *core) onAdmission(raw []byte) {
	block, err := rpc.OpenBlock(c.cfg.trust, raw)
	if err != nil {
		c.emit(note{warn: true, refused: true, what: "admission that does not verify", detail: err.Error()})
		return
	}
	a := c.admittance(block)
	if a.index == 0 || a.index <= c.admit.index {
		return // for another instance, or older
	}
	c.admit = a
	c.keep(record{AdmittedBy: raw, Admission: a.index}, false)
	c.emit(note{what: "admitted", term: a.term})
}

// admittance reads what a block says about this instance; zero for nothing.
func (c *core) admittance(block *signalbox.DecidedBlock) admittance {
	a := block.Admission(c.cfg.instance.Service)
	if a == nil || a.Identity != c.cfg.instance.Identity || a.DataCenter != c.cfg.instance.DataCenter || a.Term == 0 {
		return admittance{}
	}
	return admittance{term: a.Term, index: block.Index}
}

// onDisowned takes a gateway's refusal. A new key is made only while nothing is
// served: a gateway alone must not be able to end a service (rule 8's limit).
func (c *core) onDisowned(ev disowned) {
	c.rejected = "gateway " + ev.gateway + ": " + ev.problem
	if !ev.newKey || c.gate.open {
		c.emit(note{warn: true, refused: true, what: "a gateway refuses this instance", detail: c.rejected})
		return
	}
	c.emit(note{warn: true, what: "this identity's state was lost or rolled back: making a new key; the old identity stays outstanding until fenced, lapsed or attested", detail: c.rejected})
	c.emit(newKey{why: ev.problem})
	c.broken = true
}
