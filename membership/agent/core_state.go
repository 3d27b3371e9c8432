package agent

import (
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
)

// Maxima of what an instance remembers.
const (
	// maxOpen is how many unanswered blocks are known at once: one, and the
	// superseding ones that follow it.
	maxOpen = 8
	// maxAnswers is how many answers are kept to be repeated. The floor and the
	// highest term answered are kept for ever.
	maxAnswers = 32
)

// state is what survives: everything that later answers depend on.
type state struct {
	// Incarnation grows by one at each start of the agent.
	Incarnation uint64 `json:"incarnation"`
	// Floor is the lowest term that the instance may still serve.
	Floor signalbox.Term `json:"floor"`
	// Certificate is the newest certificate held, verbatim.
	Certificate []byte `json:"certificate,omitempty"`
	// AdmittedBy is the newest block that admitted the instance, verbatim.
	AdmittedBy []byte `json:"admitted_by,omitempty"`
	// Admission is the newest log index that admitted or listed the instance.
	Admission uint64 `json:"admission"`
	// Left is the admission that the instance left, with the leave itself.
	Left  uint64 `json:"left,omitempty"`
	Leave []byte `json:"leave,omitempty"`
	// Open are the blocks that ask for an answer and have none yet.
	Open []openBlock `json:"open,omitempty"`
	// Attested are the newest starts without a quorum: mandates.
	Attested [][]byte `json:"attested,omitempty"`
	// Answers are the latest answers given.
	Answers []answer `json:"answers,omitempty"`
	// HighestTerm and HighestBlock name the highest block answered.
	HighestTerm  signalbox.Term   `json:"highest_term,omitempty"`
	HighestBlock signalbox.Digest `json:"highest_block,omitzero"`
}

// openBlock is a block to answer.
type openBlock struct {
	Digest signalbox.Digest `json:"digest"`
	Raw    []byte           `json:"raw"`
	// First is when it was first received, by the wall clock.
	First time.Time `json:"first"`
}

// answer is the one answer to a block.
type answer struct {
	Kind     signalbox.StatementKind `json:"kind"`
	Term     signalbox.Term          `json:"term"`
	Block    signalbox.Digest        `json:"block"`
	Envelope []byte                  `json:"envelope"`
}

// record is one change of the state; what is not set does not change.
type record struct {
	Certificate []byte     `json:"certificate,omitempty"`
	AdmittedBy  []byte     `json:"admitted_by,omitempty"`
	Admission   uint64     `json:"admission,omitempty"`
	Open        *openBlock `json:"open,omitempty"`
	// Settled are open blocks that a newer certificate made moot.
	Settled []signalbox.Digest `json:"settled,omitempty"`
	Answer  *answer            `json:"answer,omitempty"`
	Left    uint64             `json:"left,omitempty"`
	Leave   []byte             `json:"leave,omitempty"`
	// Attested is an operator's mandate to start without a quorum.
	Attested []byte `json:"attested,omitempty"`
}

// what names the change for whoever kills the process at it.
func (r *record) what() string {
	switch {
	case r.Answer != nil:
		return "answer-" + r.Answer.Kind.String()
	case r.Leave != nil:
		return "leave"
	case r.Open != nil:
		return "open"
	case r.Attested != nil:
		return "attested"
	case r.Certificate != nil:
		return "certificate"
	}
	return "admission"
}

// apply changes the state. The store replays what the core applied, so that disk
// and memory cannot differ.
func (s *state) apply(r record) {
	if r.Certificate != nil {
		s.Certificate = r.Certificate
	}
	if r.AdmittedBy != nil {
		s.AdmittedBy = r.AdmittedBy
	}
	s.Admission = max(s.Admission, r.Admission)
	if r.Open != nil {
		s.Open = append(s.Open, *r.Open)
	}
	for _, d := range r.Settled {
		s.settle(d)
	}
	if r.Leave != nil {
		s.Left, s.Leave = r.Left, r.Leave
	}
	if r.Attested != nil {
		s.applyAttested(r.Attested)
	}
	if a := r.Answer; a != nil {
		s.Answers = append(s.Answers, *a)
		if len(s.Answers) > maxAnswers {
			s.Answers = slices.Delete(s.Answers, 0, len(s.Answers)-maxAnswers)
		}
		if a.Kind == signalbox.SaysAck {
			s.Floor = max(s.Floor, a.Term)
		}
		if a.Term >= s.HighestTerm {
			s.HighestTerm, s.HighestBlock = a.Term, a.Block
		}
		s.settle(a.Block)
	}
}

func (s *state) settle(block signalbox.Digest) {
	s.Open = slices.DeleteFunc(s.Open, func(o openBlock) bool { return o.Digest == block })
}

// clone returns a copy whose slices grow on their own.
func (s *state) clone() state {
	c := *s
	c.Open, c.Answers = slices.Clone(s.Open), slices.Clone(s.Answers)
	return c
}
