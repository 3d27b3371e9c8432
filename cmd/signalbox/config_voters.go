package main

import (
	"fmt"
	"strings"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// checkVoters checks what the file wants of the voters: those of a gateway's log.
// What differs is a usage error that points into the file.
func (c *GatewayConfig) checkVoters(cluster *identity.Cluster, set signalbox.VoterSet) error {
	whose := fmt.Sprintf("(The voters of epoch %d, by this gateway's log: %s; signalbox gateway voters change has others decided, before a service needs them.)",
		set.Epoch, strings.Join(set.Names(), ", "))
	return c.checkQuorums(cluster, &set, whose)
}

// checkFirstVoters is checkVoters by the bundle alone, where there is no log.
func (c *GatewayConfig) checkFirstVoters(cluster *identity.Cluster) error {
	set := signature.First(cluster)
	return c.checkQuorums(cluster, &set, "(The first voters, as the bundle has them. If the log has others by now, leave them out: --bundle=false; the gateway checks its file against its log when it starts.)")
}

func (c *GatewayConfig) checkQuorums(cluster *identity.Cluster, set *signalbox.VoterSet, whose string) error {
	var p problems
	for i, s := range c.Services {
		s.checkQuorum(&p, fmt.Sprintf("services[%d]", i), cluster.DataCenters, set, whose)
	}
	return c.problemsIn(p)
}

// checkQuorum: an instance with leases serves only while a quorum of voters can be
// reached, and nothing is failed over by itself without one, so losing any one data
// center must leave one (design, section 3).
func (s *ServiceConfig) checkQuorum(p *problems, at string, dcs []identity.DataCenter, set *signalbox.VoterSet, whose string) {
	leased := s.Failover.leases().Used()
	if !leased && !s.Failover.automatic() {
		return
	}
	in := map[signalbox.DataCenter]int{}
	for _, v := range set.Voters {
		in[v.DataCenter]++
	}
	for _, dc := range dcs {
		left := len(set.Voters) - in[dc.Name]
		if !leased && !s.Failover.fences(dc.Name) {
			p.add(at+".failover.fence", "automatic: data center %s has no fencing plugin, and no lease of its instances runs out: nothing could be certified without a person. Configure a plugin for it, or lapse, or mode: manual", dc.Name)
			return
		}
		if left < set.Quorum() && !leased {
			p.add(at+".failover.mode", "automatic: without data center %s %d of %d voters are left, and a quorum is %d: nobody could decide or certify. "+
				"Have voters in a third data center (1/1/1 or 2/2/2 voters), or mode: manual. %s", dc.Name, left, len(set.Voters), set.Quorum(), whose)
			return
		}
		if left < set.Quorum() {
			p.add(at+".failover.evidence", "lapse: without data center %s %d of %d voters are left, and a quorum is %d: nobody could renew a lease or sign that one lapsed, and every instance would close. "+
				"Have voters in a third data center, so that losing any one leaves a quorum (1/1/1 or 2/2/2 voters); or fail over by a fencing plugin (fence) or a person's word (attest). %s",
				dc.Name, left, len(set.Voters), set.Quorum(), whose)
			return
		}
	}
}
