package main

import (
	"fmt"
	"slices"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// loadBundle reads the bundle and checks the file against it. What differs is a
// usage error that points into the file. The cluster that comes back has the
// file's addresses.
func (c *GatewayConfig) loadBundle() (*identity.Bundle, *identity.Cluster, error) {
	b, err := identity.Load(c.Bundle)
	if err != nil {
		return nil, nil, c.problemsIn(problems{{"bundle", err.Error()}})
	}
	var p problems
	if b.Self.Role != rpc.RoleGateway {
		p.add("bundle", "it is the bundle of %s: want a gateway's", b.Self)
	}
	p.same("cluster", c.Cluster, b.Self.Cluster)
	p.same("data_center", c.DataCenter, string(b.Self.DataCenter))
	p.same("name", c.Name, b.Self.Name)
	if c.Voter != nil && *c.Voter != (b.Voter != nil) {
		p.add("voter", "the bundle says %v", b.Voter != nil)
	}
	for i, s := range c.Services {
		for j, dc := range s.DataCenters {
			if !b.Cluster.Has(signalbox.DataCenter(dc)) {
				p.add(fmt.Sprintf("services[%d].data_centers[%d]", i, j), "the cluster has no data center %q", dc)
			}
		}
	}
	cluster := c.topology(b.Cluster, &p)
	if len(p) > 0 {
		return nil, nil, c.problemsIn(p)
	}
	return b, cluster, nil
}

// topology is the bundle's description with the file's addresses.
func (c *GatewayConfig) topology(from *identity.Cluster, p *problems) *identity.Cluster {
	out := *from
	out.DataCenters = slices.Clone(from.DataCenters)
	for i := range out.DataCenters {
		out.DataCenters[i].Gateways = slices.Clone(out.DataCenters[i].Gateways)
	}
	for i, dc := range c.DataCenters {
		for j := range dc.Gateways {
			g := &dc.Gateways[j]
			if !overrideGateway(&out, dc.Name, g) {
				p.add(fmt.Sprintf("data_centers[%d].gateways[%d].name", i, j), "the cluster has no gateway %q in data center %q", g.Name, dc.Name)
			}
		}
	}
	return &out
}

func overrideGateway(c *identity.Cluster, dc string, by *GatewayAddresses) bool {
	for i := range c.DataCenters {
		for j := range c.DataCenters[i].Gateways {
			g := &c.DataCenters[i].Gateways[j]
			if string(c.DataCenters[i].Name) != dc || g.Name != by.Name {
				continue
			}
			to := g.Addresses()
			for what, address := range by.addresses() {
				if *address != "" {
					*to[what] = *address
				}
			}
			return true
		}
	}
	return false
}

// listenOn is where this gateway listens: the file's addresses, else its own
// in the cluster's description.
func (c *GatewayConfig) listenOn(cluster *identity.Cluster, name string) ListenConfig {
	l := c.Listen
	g, _, _ := cluster.Gateway(name)
	from := g.Addresses()
	for what, address := range l.addresses() {
		if *address == "" {
			*address = *from[what]
		}
	}
	return l
}

func (c *GatewayConfig) problemsIn(p problems) error { return p.inFile(c.file) }
