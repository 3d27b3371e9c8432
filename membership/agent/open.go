package agent

import (
	"crypto/ed25519"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// stateName is the directory in a bundle that holds the instances' state.
const stateName = "state"

// Open makes the agent of a bundle (a directory that `signalbox keys issue`
// made) for its instances: LoadOptions and New. Logs go to standard error,
// metrics to Prometheus' default registry. Gossip listens on any port of the first
// instance's address, when that is an IP.
func Open(bundleDir string, instances ...Instance) (*Agent, error) {
	opts, err := LoadOptions(bundleDir)
	if err != nil {
		return nil, err
	}
	opts.Instances = instances
	if len(instances) == 0 {
		return nil, fmt.Errorf("open agent: %w: no instance", signalbox.ErrInvalid)
	}
	opts.Log = zerolog.New(os.Stderr).Level(zerolog.InfoLevel).With().Timestamp().Str("agent", opts.Keeper.Self().Name).Logger()
	opts.Registerer = prometheus.DefaultRegisterer
	if host, _, err := net.SplitHostPort(instances[0].Address); err == nil && net.ParseIP(host) != nil {
		opts.GossipPool.Listen = net.JoinHostPort(host, "0")
	}
	return New(opts)
}

// LoadOptions reads a bundle into options that lack only the instances. The
// state is kept in the bundle's directory "state".
func LoadOptions(bundleDir string) (Options, error) {
	b, err := identity.Load(bundleDir)
	if err != nil {
		return Options{}, err
	}
	if b.Self.Role != rpc.RoleAgent {
		return Options{}, fmt.Errorf("load bundle %s: %w: it is of %s; make an agent's with signalbox keys issue", bundleDir, signalbox.ErrInvalid, b.Self)
	}
	keeper, err := b.Keeper()
	if err != nil {
		return Options{}, fmt.Errorf("load bundle %s: %w", bundleDir, err)
	}
	opts := Options{
		Cluster: b.Cluster.Name, DataCenter: b.Self.DataCenter, Keeper: keeper,
		Quorum: b.Cluster.Quorum(), StateDir: filepath.Join(bundleDir, stateName), Log: zerolog.Nop(),
	}
	for _, v := range b.Cluster.Voters {
		opts.VoterKeys = append(opts.VoterKeys, ed25519.PublicKey(v.PublicKey))
	}
	if opts.Trust, err = signature.Trust(b.Cluster); err != nil {
		return Options{}, fmt.Errorf("load bundle %s: %w", bundleDir, err)
	}
	opts.Mandates = func(proof []byte, at time.Time) (*signalbox.Mandate, error) {
		return rpc.OpenMandate(rpc.MandateTrust{Cluster: b.Cluster.Name, Roots: keeper.Roots(), Keys: b.Cluster.OperatorKeys}, proof, at)
	}
	opts.GossipPool.Keys = b.Gossip
	opts.GossipPool.Reload = func() ([][]byte, error) {
		keys, _, err := identity.ReadGossip(bundleDir)
		return keys, err
	}
	for _, g := range b.Gateways() {
		opts.Gateways = append(opts.Gateways, g.RPC)
		if g.GossipLAN != "" {
			opts.GossipPool.Seeds = append(opts.GossipPool.Seeds, g.GossipLAN)
		}
	}
	return opts, nil
}
