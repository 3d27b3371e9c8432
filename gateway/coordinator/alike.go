package coordinator

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"sort"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/policy"
	"github.com/signalbox-io/signalbox/rpc/wire"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// configDigest tells two configurations of a service apart: the first half of it
// what all gateways must have alike, the second what those of one data center
// must, where its proxies listen.
type configDigest struct{ everywhere, here [16]byte }

func (d configDigest) bytes() []byte { return append(d.everywhere[:], d.here[:]...) }

func configDigestOf(raw []byte) (d configDigest, ok bool) {
	if len(raw) != len(d.everywhere)+len(d.here) {
		return d, false
	}
	copy(d.everywhere[:], raw)
	copy(d.here[:], raw[len(d.everywhere):])
	return d, true
}

// digest covers what gateways must have alike, or proxies would be told something
// else by one than by the other, and voters would judge by other rules. How a
// gateway fences is its own.
func (s *Service) digest() (d configDigest) {
	centers := slices.Clone(s.DataCenters)
	slices.Sort(centers)
	text, _ := json.Marshal(struct { // names, numbers and durations always encode
		Name        signalbox.Service
		Protocol    resource.Protocol
		Times       []int64
		DataCenters []signalbox.DataCenter
		Streams     signalbox.StreamPolicy
		Observe     bool
		Rules       policy.Rules
		DependsOn   []signalbox.Service
		Singleton   bool
		Evidence    signalbox.EvidenceKinds
		Leases      signalbox.Leases
	}{
		s.Name, s.Protocol,
		[]int64{int64(s.HoldBudget), int64(s.HoldTimeout), int64(s.ConnectTimeout), int64(s.RequestTimeout)},
		centers, s.Streams, s.Observe, s.Rules, s.DependsOn, s.Singleton, s.Evidence, s.Leases,
	})
	sum := sha256.Sum256(text)
	copy(d.everywhere[:], sum[:])
	text, _ = json.Marshal(s.Listener)
	sum = sha256.Sum256(text)
	copy(d.here[:], sum[:])
	return d
}

// introduce says to a peer what is configured here.
func (c *Coordinator) introduce() *wire.PeerFrame {
	hello := &wire.PeerHello{Gateway: c.opt.Gateway, DataCenter: string(c.opt.DataCenter), LogIndex: c.opt.Journal.Index()}
	for _, s := range c.services {
		d := s.conf.digest()
		hello.Services = append(hello.Services, &wire.ServiceDigest{Service: string(s.conf.Name), Digest: d.bytes()})
	}
	return &wire.PeerFrame{Kind: &wire.PeerFrame_Hello{Hello: hello}}
}

// peerConfigured takes what a peer has configured.
func (c *Coordinator) peerConfigured(gateway string, services []*wire.ServiceDigest) {
	if _, peer := c.opt.Peers[gateway]; !peer || len(services) > maxList {
		return
	}
	theirs := make(map[signalbox.Service]configDigest, len(services))
	for _, s := range services {
		if d, ok := configDigestOf(s.GetDigest()); ok && len(s.GetService()) <= signalbox.MaxName {
			theirs[signalbox.Service(s.GetService())] = d
		}
	}
	c.configs[gateway] = theirs
	for _, problem := range c.allDifferent() {
		c.opt.Logger.Warn().Str("peer", gateway).Str("event", "configured_differently").Msg(problem)
	}
}

// different says of which peers the configuration of a service differs.
func (c *Coordinator) different(s *service) (bad []string) {
	own := s.conf.digest()
	for gateway, theirs := range c.configs {
		if d, has := theirs[s.conf.Name]; !has {
			bad = append(bad, "gateway "+gateway+" does not have "+string(s.conf.Name)+" in its configuration")
		} else if d.everywhere != own.everywhere || d.here != own.here && c.opt.Peers[gateway] == c.opt.DataCenter {
			bad = append(bad, "gateway "+gateway+" has "+string(s.conf.Name)+" configured otherwise than gateway "+c.opt.Gateway)
		}
	}
	sort.Strings(bad)
	return bad
}

// allDifferent is different for all services, and for those that this gateway
// lacks.
func (c *Coordinator) allDifferent() (bad []string) {
	for _, s := range c.services {
		bad = append(bad, c.different(s)...)
	}
	for gateway, theirs := range c.configs {
		for name := range theirs {
			if c.services[name] == nil {
				bad = append(bad, "gateway "+c.opt.Gateway+" does not have "+string(name)+" in its configuration, gateway "+gateway+" has")
			}
		}
	}
	sort.Strings(bad)
	return bad
}

// makeAlike is what to do about it.
const makeAlike = "give the service the same entry in every gateway's configuration and restart those that differ"
