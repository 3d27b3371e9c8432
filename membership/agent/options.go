package agent

import (
	"crypto/ed25519"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/guard"
	"github.com/signalbox-io/signalbox/rpc"
)

// Maxima of an agent.
const (
	MaxInstances = 256
	MaxGateways  = 64
)

// Gossip delivers signed statements when the direct way fails.
type Gossip interface {
	// Broadcast hands a statement on; it does not block.
	Broadcast(raw []byte)
}

// Options say what an agent is for. The zero value is not usable.
type Options struct {
	Cluster    string
	DataCenter signalbox.DataCenter
	// Keeper holds the agent's TLS identity.
	Keeper *rpc.Keeper
	// Trust verifies blocks and certificates; VoterKeys and Quorum count the
	// answers to the nonce question.
	Trust     rpc.Trust
	VoterKeys []ed25519.PublicKey
	Quorum    int
	// Mandates verifies an operator's mandate at a time; nil: none starts an
	// instance without a quorum.
	Mandates func(proof []byte, at time.Time) (*signalbox.Mandate, error)
	// Gateways are the addresses (host:port) of this data center's gateways.
	Gateways []string
	// StateDir holds a directory for each instance. It must survive restarts
	// and must not be in images or backups.
	StateDir  string
	Instances []Instance
	// GossipPool is the data center's pool; see GossipOptions.
	GossipPool GossipOptions
	// Gossip is another way to deliver statements, for tests; may be nil.
	Gossip Gossip
	Log    zerolog.Logger
	// Registerer takes the metrics; nil for none.
	Registerer prometheus.Registerer
	// Version is what the agent says it is.
	Version string
}

// An Instance is one process that the agent makes obey.
type Instance struct {
	Service signalbox.Service
	Name    string
	// Address is where proxies reach the instance, host:port.
	Address string
	// Driver drives it; nil for the Go service that this agent is part of,
	// whose handler Guard wraps.
	Driver driver.Driver
	// DriverName says to people which driver it is; "library" when nil.
	DriverName string
	// Unmanaged has a library instance serve before its service was adopted,
	// as it did without Signalbox. It ends for good when the instance hears of
	// the service's first certificate. Set it for the running master only:
	// until then nothing keeps two such instances from serving at once.
	Unmanaged bool
	// Streams and MaxParked are for the Go library only.
	Streams   guard.Streams
	MaxParked int
}

func (o *Options) validate() error {
	for what, name := range map[string]string{"cluster": o.Cluster, "data center": string(o.DataCenter)} {
		if err := signalbox.CheckName(what, name); err != nil {
			return err
		}
	}
	switch {
	case o.Keeper == nil:
		return fmt.Errorf("%w: no TLS identity", signalbox.ErrInvalid)
	case o.Trust.Cluster != o.Cluster || o.Trust.Quorum == nil:
		return fmt.Errorf("%w: no trust for cluster %q", signalbox.ErrInvalid, o.Cluster)
	case o.Quorum < 1 || o.Quorum > len(o.VoterKeys):
		return fmt.Errorf("%w: quorum %d of %d voters", signalbox.ErrInvalid, o.Quorum, len(o.VoterKeys))
	case o.StateDir == "":
		return fmt.Errorf("%w: no state directory", signalbox.ErrInvalid)
	case len(o.Gateways) == 0 || len(o.Gateways) > MaxGateways:
		return fmt.Errorf("%w: %d gateways, want 1 to %d", signalbox.ErrInvalid, len(o.Gateways), MaxGateways)
	case len(o.Instances) == 0 || len(o.Instances) > MaxInstances:
		return fmt.Errorf("%w: %d instances, want 1 to %d", signalbox.ErrInvalid, len(o.Instances), MaxInstances)
	}
	for _, key := range o.VoterKeys {
		if len(key) != ed25519.PublicKeySize {
			return fmt.Errorf("%w: voter key of %d bytes", signalbox.ErrInvalid, len(key))
		}
	}
	seen := map[string]bool{}
	for i := range o.Instances {
		in := &o.Instances[i]
		if err := in.validate(); err != nil {
			return err
		}
		if seen[in.Name] {
			return fmt.Errorf("%w: two instances are named %q", signalbox.ErrInvalid, in.Name)
		}
		seen[in.Name] = true
	}
	return nil
}

func (in *Instance) validate() error {
	if err := signalbox.CheckName("service", string(in.Service)); err != nil {
		return err
	}
	if err := signalbox.CheckName("instance", in.Name); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(in.Address)
	if err != nil || host == "" || port == "" || port == "0" || len(in.Address) > signalbox.MaxAddress {
		return fmt.Errorf("%w: address %q of instance %s: want the host:port where proxies reach it, at most %d bytes", signalbox.ErrInvalid, in.Address, in.Name, signalbox.MaxAddress)
	}
	if in.DriverName == "" {
		in.DriverName = "library"
	}
	return nil
}
