package server

import (
	"context"
	"time"

	"github.com/signalbox-io/signalbox"
)

// fits reports whether the configuration can work with voters; see
// Options.CheckVoters.
func (s *Server) fits(set signalbox.VoterSet) error {
	if s.opt.CheckVoters == nil {
		return nil
	}
	return s.opt.CheckVoters(set)
}

// checkVoters refuses a configuration that the voters of the log do not bear. Others
// may know newer ones: the journal of a gateway that is new is empty, and one that was
// away is old. Where there are other gateways they are asked first (proveVoters).
func (s *Server) checkVoters() error {
	set := s.office.Voters()
	err := s.fits(set)
	if peers, _ := s.topology(); err == nil || len(peers) == 0 {
		return err
	}
	s.unproven = true
	s.opt.Logger.Warn().Err(err).Uint64("epoch", set.Epoch).Uint64("log_index", s.journal.Index()).
		Msg("the voters of this gateway's log are too few for its configuration: it asks the others whether its log is old, and ends if not")
	return nil
}

// proveInterval is after what time other gateways are asked again.
const proveInterval = 500 * time.Millisecond

// proveVoters ends the gateway when its log is as new as those of the gateways that
// answer, one at least, and the configuration does not fit the voters still.
func (s *Server) proveVoters(ctx context.Context) error {
	if !s.unproven {
		return nil
	}
	again := time.NewTicker(proveInterval)
	defer again.Stop()
	for {
		others := s.peers.Newest(ctx)
		newest := uint64(0)
		for _, index := range others {
			newest = max(newest, index)
		}
		set, index := s.office.Voters(), s.journal.Index() // the log is not older than those voters
		err := s.fits(set)
		if err == nil {
			s.opt.Logger.Info().Uint64("epoch", set.Epoch).Strs("voters", set.Names()).Msg("the voters of the newest log are enough for the configuration")
			return nil
		}
		if len(others) > 0 && index >= newest && ctx.Err() == nil && s.office.Voters().Epoch == set.Epoch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
	}
}
