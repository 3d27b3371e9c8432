package agent

import (
	"bytes"
	"context"
	"slices"
	"time"
)

// renewEvery is how often the agent looks whether its bundle was rotated.
const renewEvery = time.Second

// watchBundle follows the rotation of the agent's bundle until ctx ends. With a
// new certificate it introduces its instances anew: what they are enrolled with
// is believed only as long as the CA that it was signed under. New gossip keys go
// into the pool's keyring.
func (a *Agent) watchBundle(ctx context.Context) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	certificate, keys := a.certificate(), a.opts.GossipPool.Keys
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if now := a.certificate(); !bytes.Equal(now, certificate) {
			certificate = now
			a.introduceAgain()
		}
		keys = a.reloadKeys(keys)
	}
}

func (a *Agent) certificate() []byte { return a.opts.Keeper.Certificate().Certificate[0] }

// introduceAgain says hello once more in every session.
func (a *Agent) introduceAgain() {
	for _, r := range a.runners {
		hello, err := r.hello(time.Now())
		if err != nil {
			a.opts.Log.Error().Err(err).Msg("cannot introduce an instance with the new certificate")
			continue
		}
		for _, s := range a.sessions {
			s.send(hello)
		}
	}
	a.opts.Log.Info().Str("event", "renewed").Msg("the certificate was rotated: introduced the instances with it")
}

// reloadKeys gives the pool the keys of the bundle, where they changed, and
// returns those that it has.
func (a *Agent) reloadKeys(have [][]byte) [][]byte {
	pool := a.pool.Load()
	if pool == nil || a.opts.GossipPool.Reload == nil {
		return have
	}
	keys, err := a.opts.GossipPool.Reload()
	if err != nil || slices.EqualFunc(keys, have, bytes.Equal) {
		return have // a rotation that is half written is read again
	}
	if err := pool.SetKeys(keys); err != nil {
		a.opts.Log.Error().Err(err).Msg("cannot take the new gossip keys")
		return have
	}
	a.opts.Log.Info().Str("event", "renewed").Int("keys", len(keys)).Msg("took new gossip keys")
	return keys
}
