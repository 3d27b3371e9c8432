package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// watchedFor is how much longer than a failover takes to be due a silence is
// watched closely.
const watchedFor = 5 * time.Second

// watchSilence tells the peers, as a voter, for how long nobody of the master's
// data center was heard of, and fails over when a quorum says so for long enough.
func (c *Coordinator) watchSilence(s *service) {
	cert := s.machine.Certificate()
	if s.silence == nil || cert == nil {
		return
	}
	delete(c.silent, s)
	now, master := c.opt.Now(), cert.DataCenter()
	voting := c.opt.Voting()
	s.silence.SetVoters(voting.Voters, voting.Quorum)
	if slices.Contains(voting.Voters, c.opt.Gateway) {
		own := handover.Silence{Voter: c.opt.Gateway, DataCenter: master, For: c.silentFor(s, master, now)}
		s.silence.Report(own, now)
		if own.For > 0 {
			if own.For < s.silence.After()+watchedFor {
				c.silent[s] = true
			}
			c.opt.Links.Broadcast(&wire.PeerFrame{Kind: &wire.PeerFrame_Silence{Silence: &wire.Silence{
				Service: string(s.conf.Name), DataCenter: string(master), SilentNano: int64(own.For),
			}}})
		}
	}
	if _, open := s.machine.Open(); open || master == c.opt.DataCenter {
		return
	}
	since := s.since
	if since.IsZero() {
		since = c.began
	}
	if why, due := s.silence.Due(master, since, now, c.turn()); due {
		c.failOverByItself(s, cert, why)
	}
}

// silentFor is for how long nobody has had a session with any agent of the
// service in a data center, 0 when somebody has, and never longer than this
// gateway runs.
func (c *Coordinator) silentFor(s *service, dc signalbox.DataCenter, now time.Time) time.Duration {
	last := c.began
	for _, i := range s.instances {
		if i.DataCenter != dc {
			continue
		}
		if i.reachable() {
			return 0
		}
		for _, v := range i.views {
			if v.silent.After(last) {
				last = v.silent
			}
		}
	}
	return now.Sub(last)
}

// peerSilence takes a voter's report.
func (c *Coordinator) peerSilence(gateway string, f *wire.Silence) {
	s := c.services[signalbox.Service(f.GetService())]
	if s == nil || s.silence == nil || f.GetSilentNano() < 0 {
		return
	}
	s.silence.Report(handover.Silence{
		Voter: gateway, DataCenter: signalbox.DataCenter(f.GetDataCenter()), For: time.Duration(f.GetSilentNano()),
	}, c.opt.Now())
}

// failOverByItself orders the failover to this data center, or to the first that
// is ready. Its id is the same at every gateway, so that one is begun.
func (c *Coordinator) failOverByItself(s *service, cert *signalbox.Certificate, why string) {
	c.opt.Logger.Warn().Str("service", string(s.conf.Name)).Msg("automatic failover: " + why)
	order := api.FailoverOrder{Order: api.Order{
		ID: fmt.Sprintf("%s-auto-%d", s.conf.Name, cert.Term), Service: string(s.conf.Name), By: "signalbox", Reason: "automatic: " + why,
		Expect: signalbox.Expectation{DataCenter: cert.DataCenter(), Term: cert.Term}.String(),
	}}
	targets := append([]signalbox.DataCenter{c.opt.DataCenter}, s.conf.DataCenters...)
	c.background(func(ctx context.Context) {
		for n, dc := range targets {
			if dc == cert.DataCenter() || n > 0 && dc == c.opt.DataCenter || !slices.Contains(s.conf.DataCenters, dc) {
				continue
			}
			order.To = string(dc)
			_, err := c.Failover(ctx, order)
			if err == nil || errors.Is(err, signalbox.ErrConflict) || errors.Is(err, signalbox.ErrExpectation) || ctx.Err() != nil {
				return
			}
			c.opt.Logger.Error().Err(err).Str("service", string(s.conf.Name)).Str("to", order.To).Msg("automatic failover could not begin")
		}
	})
}
