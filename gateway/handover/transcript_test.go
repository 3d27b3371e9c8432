package handover_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

var update = flag.Bool("update", false, "write the transcripts' effects as they are now")

// stage is one machine with a log, as a transcript drives it.
type stage struct {
	t       *testing.T
	book    *book
	machine *handover.Machine
	blocks  map[string]*signalbox.DecidedBlock
	now     time.Time
	out     strings.Builder
}

// TestTranscripts guards what a gateway does at each step of a handover, seen
// from each role. In testdata/*.txt, lines up to ---- are events (+d lets time
// pass before one), what follows up to an empty line are the effects.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(raw))
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(raw) {
				t.Errorf("%s differs (go test -run Transcripts -update writes it); got:\n%s", path, got)
			}
		})
	}
}

// play returns the script with the effects as they are.
func play(t *testing.T, script string) string {
	s := &stage{t: t, book: adopted(t), blocks: map[string]*signalbox.DecidedBlock{}, now: epoch}
	var out strings.Builder
	effects := false
	for _, line := range strings.SplitAfter(script, "\n") {
		text := strings.TrimSpace(line)
		switch {
		case text == "----":
			effects = true
			out.WriteString(line)
			out.WriteString(s.out.String())
			s.out.Reset()
		case effects && text != "":
		case text == "" || strings.HasPrefix(text, "#"):
			effects = false
			out.WriteString(line)
		default:
			out.WriteString(line)
			s.play(text)
		}
	}
	return out.String()
}

func (s *stage) play(line string) {
	words := strings.Fields(line)
	if strings.HasPrefix(words[0], "+") {
		d, err := time.ParseDuration(words[0][1:])
		if err != nil {
			s.t.Fatalf("%q: %v", line, err)
		}
		s.now = s.now.Add(d)
		words = words[1:]
	}
	switch words[0] {
	case "gateway":
		s.machine = handover.NewMachine(handover.Options{Service: orders, Gateway: words[1], DataCenter: dcOf(words[1]), Peers: peersOf(words[1])})
	case "block": // block h1 west w1 w2: decided, this gateway has not heard yet
		s.blocks[words[1]] = s.book.handover(s.t, words[1], signalbox.DataCenter(words[2]), words[3:]...)
	case "leased": // adopted with leases
		s.book = leased(s.t)
	case "failover": // failover f1 west w1: decided, allows others' evidence
		h := s.book.failover(words[1], signalbox.DataCenter(words[2]), signalbox.ByOthers, words[3:]...)
		if open := s.book.Service(orders).Open; len(open) > 0 {
			h.From = open[len(open)-1].Handover(orders).From
		}
		s.blocks[words[1]] = s.book.must(s.t, signalbox.Request{Handover: h})
	case "admit":
		s.book.must(s.t, admit(words[1], s.book.Service(orders).Term()))
	case "status":
		s.status()
	default:
		s.feed(s.event(words))
	}
}

func dcOf(gateway string) signalbox.DataCenter {
	dc, _, _ := strings.Cut(gateway, "-")
	return signalbox.DataCenter(dc)
}

func peersOf(gateway string) map[string]signalbox.DataCenter {
	peers := map[string]signalbox.DataCenter{}
	for _, n := range []string{"east-1", "east-2", "west-1", "west-2"} {
		if n != gateway {
			peers[n] = dcOf(n)
		}
	}
	return peers
}

var kinds = map[string]signalbox.StatementKind{"drained": signalbox.SaysDrained, "ack": signalbox.SaysAck, "refuse": signalbox.SaysRefuse,
	"lapse": signalbox.SaysLapse, "fence": signalbox.SaysFence, "attest": signalbox.SaysAttest}

func (s *stage) event(words []string) handover.Event {
	switch words[0] {
	case "tick":
		return handover.Tick{}
	case "decided":
		return handover.Decided{Block: s.block(words[1]), Resumed: len(words) > 2 && words[2] == "resumed"}
	case "prepared":
		return handover.Prepared{Gateway: words[1], Block: s.block(words[2]).Digest}
	case "peer":
		return handover.PeerChanged{Gateway: words[1], Up: words[2] == "up"}
	case "agent":
		return handover.AgentChanged{Identity: actor(words[1]).Identity, Up: words[2] == "up"}
	case "held": // held west-1 h1 p1 p2=late
		h := handover.Held{Gateway: words[1], Block: s.block(words[2]).Digest, Complete: true}
		for _, p := range words[3:] {
			id, late := strings.CutSuffix(p, "=late")
			h.Proxies = append(h.Proxies, handover.ProxyHold{ID: id, Acknowledged: !late})
			h.Complete = h.Complete && !late
			h.Final = !h.Complete && words[1] != "east-1"
		}
		return h
	case "said":
		if words[2] == "leave" {
			var admission, answered int
			s.scan(words[3], &admission)
			s.scan(words[4], &answered)
			return handover.Said{Evidence: actor(words[1]).leaves(uint64(admission), signalbox.Term(answered))}
		}
		if kinds[words[2]].ByOthers() {
			return handover.Said{Evidence: taken(kinds[words[2]], words[1], s.block(words[3]))}
		}
		return handover.Said{Evidence: actor(words[1]).answer(kinds[words[2]], s.block(words[3]))}
	case "serves":
		return handover.Serves{Identity: actor(words[1]).Identity, Term: s.term(words[2])}
	case "certified":
		return handover.Certified{Certificate: s.certificate(words[1], s.term(words[2]))}
	case "giveup":
		return handover.GiveUp{Block: s.block(words[1]).Digest, Problem: strings.Join(words[2:], " ")}
	case "logged":
		c := s.certificate(words[1], s.term(words[2]))
		s.book.must(s.t, outcome(c.Block, c.Term, c.Evidence...))
		return handover.Logged{Block: c.Block.Digest, Certified: c.Term}
	case "removed":
		return handover.Removed{Identity: actor(words[1]).Identity, Index: s.book.Index()}
	}
	s.t.Fatalf("unknown event %q", words[0])
	return nil
}

func (s *stage) scan(word string, to *int) {
	if _, err := fmt.Sscan(word, to); err != nil {
		s.t.Fatalf("%q: %v", word, err)
	}
}

func (s *stage) term(word string) signalbox.Term {
	var n int
	s.scan(word, &n)
	return signalbox.Term(n)
}

func (s *stage) block(id string) *signalbox.DecidedBlock {
	if s.blocks[id] == nil {
		s.t.Fatalf("no block %q", id)
	}
	return s.blocks[id]
}

func (s *stage) certificate(id string, term signalbox.Term) *signalbox.Certificate {
	b := s.block(id)
	h := b.Handover(orders)
	var evidence []signalbox.Evidence
	for _, e := range h.Roster {
		kind := signalbox.SaysAck
		if term == h.Fallback {
			kind = signalbox.SaysRefuse
		}
		evidence = append(evidence, actor(e.Name).answer(kind, b))
	}
	return certificate(s.t, b, term, evidence...)
}

// feed steps the machine and, as a coordinator, gives it back what it had built.
func (s *stage) feed(e handover.Event) {
	for _, effect := range s.machine.Step(e, s.now) {
		s.print(effect)
		if c, ok := effect.(handover.Certify); ok {
			cert, err := rpc.BuildCertificate(trust, c.Block, orders, c.Term, c.Evidence)
			if err != nil {
				s.t.Fatalf("certify: %v", err)
			}
			s.feed(handover.Certified{Certificate: cert, Built: true})
		}
	}
}

func (s *stage) print(effect handover.Effect) {
	id := func(b *signalbox.DecidedBlock) string { return b.Handover(orders).ID }
	fmt.Fprintf(&s.out, "%6.3f ", s.now.Sub(epoch).Seconds())
	switch e := effect.(type) {
	case handover.Route:
		fmt.Fprintf(&s.out, "route to term %d\n", e.Term)
	case handover.TellPrepared:
		fmt.Fprintf(&s.out, "tell peers: prepared\n")
	case handover.TellHeld:
		fmt.Fprintf(&s.out, "tell peers, first %v: held by %d proxies, complete %v, final %v\n", e.Now, len(e.Held.Proxies), e.Held.Complete, e.Held.Final)
	case handover.Order:
		var to []string
		for _, i := range e.To {
			to = append(to, nameOf(i))
		}
		fmt.Fprintf(&s.out, "order %s of %s to %s\n", e.Kind, id(e.Block), strings.Join(to, " "))
	case handover.TellGiveUp:
		fmt.Fprintf(&s.out, "tell peers: give up (%s)\n", e.Problem)
	case handover.Collect:
		fmt.Fprintf(&s.out, "collect %s of %s for %s\n", e.Kind, strings.Join(rosterNames(&signalbox.Handover{Roster: e.Of}), " "), id(e.Block))
	case handover.Certify:
		fmt.Fprintf(&s.out, "certify term %d of %s by %d\n", e.Term, id(e.Block), len(e.Evidence))
	case handover.Spread:
		fmt.Fprintf(&s.out, "spread certificate %d to %s\n", e.Certificate.Term, e.To)
	case handover.Release:
		fmt.Fprintf(&s.out, "release term %d\n", e.Certificate.Term)
	case handover.ProposeOutcome:
		fmt.Fprintf(&s.out, "propose outcome %d\n", e.Certificate.Term)
	case handover.ProposeReturn:
		fmt.Fprintf(&s.out, "propose return from %s: %s\n", id(e.Block), e.Reason)
	case handover.Record:
		fmt.Fprintf(&s.out, "record %s: %s\n", e.Phase, e.Detail)
	}
}

func (s *stage) status() {
	newest, open := s.machine.Open()
	fmt.Fprintf(&s.out, "open %v, statements %d", open, len(s.machine.Statements()))
	if open {
		fmt.Fprintf(&s.out, ", newest %s", newest.Handover(orders).ID)
	}
	s.out.WriteByte('\n')
	for _, st := range s.machine.Status(s.now) {
		fmt.Fprintf(&s.out, "%s %s, certified %d, late %v, waiting for %q\n", st.Handover.ID, st.Phase, st.Certified, st.Late, st.WaitingFor)
		for _, a := range st.Acks {
			fmt.Fprintf(&s.out, "  %s drained %v evidence %q silent %v\n", a.Name, a.Drained, a.Evidence, a.Silent)
		}
	}
}
