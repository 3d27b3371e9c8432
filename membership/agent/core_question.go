package agent

import (
	"bytes"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// quiz is a nonce question and the answers to it, one for each voter's key.
type quiz struct {
	nonce   []byte
	answers map[signalbox.Identity]rpc.Answer
	asked   time.Time
}

func (c *core) newQuiz() quiz {
	return quiz{nonce: c.cfg.nonce(), answers: map[signalbox.Identity]rpc.Answer{}}
}

// question asks a gateway, or all.
func (c *core) question(q *quiz, gateway string) {
	c.emit(ask{gateway: gateway, question: &wire.Question{
		Service: string(c.cfg.instance.Service), Identity: rpc.IdentityToBytes(c.cfg.instance.Identity), Nonce: q.nonce,
	}})
}

// onAnswered counts a voter's answer: of this nonce, about this identity.
func (c *core) onAnswered(raw []byte) {
	a, voter, err := rpc.OpenAnswer(c.cfg.trust.Cluster, raw, c.voting.voter)
	if err != nil {
		c.emit(note{warn: true, refused: true, what: "answer that does not verify", detail: err.Error()})
		return
	}
	if a.Service != c.cfg.instance.Service || a.Identity != c.cfg.instance.Identity {
		c.emit(note{warn: true, refused: true, what: "answer to somebody else's question"})
		return
	}
	if a.Epoch != c.voting.epoch && c.voting.epoch != 0 {
		// It is behind, or knows newer voters, or voted for them. A quorum of these
		// voters decided who follows them, so without those that did there is none:
		// the instance waits until it knows them, or they were not decided.
		c.emit(note{what: "a voter answers for other voters"})
		return
	}
	for _, q := range []*quiz{&c.started, &c.stop.quiz} {
		if !bytes.Equal(a.Nonce, q.nonce) {
			continue
		}
		if before, ok := q.answers[voter]; !ok || before.Index < a.Index {
			q.answers[voter] = a
		}
	}
}

// quorate reports whether a quorum of voters answered.
func (c *core) quorate(q *quiz) bool { return len(q.answers) >= c.voting.quorum }

// checkFresh ends the start: a quorum answered, and nothing that they voted for
// after the instance's own entry could have taken its mastership away without
// its ack, be it the newest block or any before (rule 2). A voter that says so
// does not count: with a quorum of others it is late with its answer, or lies.
func (c *core) checkFresh() {
	if c.fresh {
		return
	}
	own, clear := c.index(), 0
	for _, a := range c.started.answers {
		if a.Beyond <= own && (a.Index <= own || a.Allowed&^signalbox.AckOnly == 0) {
			clear++
		}
	}
	if clear < c.voting.quorum {
		return
	}
	c.fresh = true
	c.emit(note{what: "a quorum of voters has answered"})
}

// restarted begins a start of the instance: it serves again only after a quorum
// has answered a new nonce.
func (c *core) restarted() {
	c.fresh = false
	c.lease.forget() // what it was told was told to another process
	c.started = c.newQuiz()
	c.emit(note{warn: true, what: "the instance was started: asking the voters"})
}

// asksStart reports whether the start's question is to be asked: not before the
// instance is known, or it could have started after the answers.
func (c *core) asksStart() bool { return c.met && !c.fresh }

// repeat asks again what nobody has answered.
func (c *core) repeat(now time.Time) {
	if c.asksStart() && !now.Before(c.started.asked.Add(repeatAfter)) {
		c.started.asked = now
		c.question(&c.started, "")
	}
	if c.asksToLeave() && !now.Before(c.stop.quiz.asked.Add(repeatAfter)) {
		c.stop.quiz.asked = now
		c.question(&c.stop.quiz, "")
	}
	if c.needsGrant() && !now.Before(c.wantAt) {
		c.wantNow("", now)
	}
}

func (c *core) wantNow(gateway string, now time.Time) {
	c.wantAt = now.Add(repeatAfter)
	c.emit(want{gateway: gateway, want: c.wants()})
}

// needsGrant reports whether a certificate or an admission would help: none
// held, one below what was acked, the current term is here and does not list the
// instance, or what the voters answered keeps it closed until it is admitted
// again.
func (c *core) needsGrant() bool {
	if c.stop.phase != stopNone || len(c.open) > 0 || !c.report.readiness.Ready {
		return false
	}
	return c.cert == nil || c.cert.Term < c.Floor || !c.fresh && c.quorate(&c.started) ||
		c.cert.DataCenter() == c.cfg.instance.DataCenter && c.mayServe() == 0
}
