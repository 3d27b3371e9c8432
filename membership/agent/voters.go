package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// votersFile keeps, in the state directory, the blocks that changed the voters. No
// instance has such a name.
const votersFile = ".voters"

// voting is whose answers and grants count, by the newest voter set that the agent
// knows. Epoch 0: the voters never change.
type voting struct {
	epoch  uint64
	voter  rpc.KeyLookup
	quorum int
}

// voting is who decides, as far as this agent knows.
func (a *Agent) voting() voting {
	if a.opts.Trust.Epochs == nil {
		return voting{voter: func(id signalbox.Identity) ed25519.PublicKey { return a.voters[id] }, quorum: a.opts.Quorum}
	}
	set := a.opts.Trust.Epochs.Newest()
	return voting{epoch: set.Epoch, voter: rpc.VoterKeys(set), quorum: set.Quorum()}
}

// loadVoters learns again what was learned before.
func (a *Agent) loadVoters() error {
	if a.opts.Trust.Epochs == nil {
		return nil
	}
	raw, err := readBounded(filepath.Join(a.opts.StateDir, votersFile), 2*rpc.MaxChain)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read voters: %w", err)
	}
	var m wire.VoterChain
	if err := proto.Unmarshal(raw, &m); err != nil {
		a.opts.Log.Warn().Err(err).Msg("what was kept of the voters cannot be read: the gateways tell it again")
		return nil
	}
	if _, err := a.learn(m.GetDecided()); err != nil {
		a.opts.Log.Warn().Err(err).Msg("what was kept of the voters does not verify: the gateways tell it again")
	}
	return nil
}

// learn takes blocks that changed the voters, each verified by the set before it,
// and reports whether there are newer voters now.
func (a *Agent) learn(chain [][]byte) (newer bool, err error) {
	epochs := a.opts.Trust.Epochs
	if epochs == nil {
		return false, nil
	}
	before, size := epochs.Newest().Epoch, 0
	for _, raw := range chain {
		if size += len(raw); size > rpc.MaxChain {
			return false, fmt.Errorf("%w: more than %d bytes of voters", signalbox.ErrInvalid, rpc.MaxChain)
		}
		if err = epochs.Learn(a.opts.Trust, raw); err != nil {
			break
		}
	}
	return epochs.Newest().Epoch > before, err
}

// toldVoters takes what a gateway says of the voters.
func (s *session) toldVoters(ctx context.Context, m *wire.VoterChain) {
	newer, err := s.agent.learn(m.GetDecided())
	if err != nil {
		s.agent.metrics.rejected.WithLabelValues("").Inc()
		s.log.Warn().Err(err).Str("event", "voters_refused").Msg("the gateway's voters do not verify")
	}
	if !newer {
		return
	}
	set := s.agent.opts.Trust.Epochs.Newest()
	s.log.Info().Str("event", "voters").Uint64("epoch", set.Epoch).Strs("voters", set.Names()).Msg("the voters were changed")
	if err := s.agent.keepVoters(); err != nil {
		s.log.Error().Err(err).Msg("cannot keep the voters: they are asked for again after a start")
	}
	for _, r := range s.agent.runners {
		r.post(ctx, learned{})
	}
}

// keepVoters writes what the agent knows of the voters.
func (a *Agent) keepVoters() error {
	a.votersMu.Lock()
	defer a.votersMu.Unlock()
	raw, err := proto.Marshal(&wire.VoterChain{Decided: a.opts.Trust.Epochs.Chain(0)})
	if err != nil {
		return fmt.Errorf("write voters: %w", err)
	}
	path := filepath.Join(a.opts.StateDir, votersFile)
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write voters: %w", err)
	}
	_, err = file.Write(raw)
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("write voters: %w", err)
	}
	return syncDir(a.opts.StateDir)
}

// checkVoters goes on with the newest voters: what those before them answered counts
// no more, and they are asked for leases again.
func (c *core) checkVoters() {
	now := c.cfg.voting()
	if now.epoch == c.voting.epoch {
		return
	}
	c.voting = now
	for _, q := range []*quiz{&c.started, &c.stop.quiz} {
		q.answers = map[signalbox.Identity]rpc.Answer{}
	}
	c.started.asked, c.stop.quiz.asked = c.now.Add(-repeatAfter), c.now.Add(-repeatAfter)
}
