package demo

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/rpc/ports"
)

// Instance is one instance of the example service as the site runs it.
type Instance struct {
	Name       string
	DataCenter string
	Driver     string
	Address    string // for requests
	Control    string // of the driver contract; empty with the library
	Agent      string // name of the agent's process; empty with the library
	Gossip     string // of its agent
	Metrics    string // of its agent
	WriteLog   string // path
}

// Envoy is one proxy as the site runs it.
type Envoy struct {
	Name       string
	DataCenter string
	Listener   string // for callers of the example service, host:port
	Admin      string // host:port
}

// Gateway is one gateway as the site runs it.
type Gateway struct {
	identity.Gateway
	DataCenter string
}

// layout is who is where.
type layout struct {
	gateways  []Gateway
	instances []Instance
	envoys    []Envoy
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// lay gives everybody a name and ports.
func lay(o Options, dir string, p *ports.Block) (layout, error) {
	var l layout
	for _, dc := range DataCenters() {
		for n := 1; n <= o.Gateways && o.Bare == ""; n++ {
			if err := l.addGateway(dc, n, p); err != nil {
				return l, err
			}
		}
		for n := 1; n <= o.Instances; n++ {
			port, err := p.Ports(4)
			if err != nil {
				return l, err
			}
			in := Instance{
				Name: fmt.Sprintf("%s-%s-%d", Service, dc, n), DataCenter: dc, Driver: o.Drivers[dc],
				Address: loopback(port), Gossip: loopback(port + 2), Metrics: loopback(port + 3),
			}
			if in.Driver == DriverHTTP {
				in.Control, in.Agent = loopback(port+1), fmt.Sprintf("agent-%s-%d", dc, n)
			}
			in.WriteLog = filepath.Join(dir, dirWrites, in.Name+".jsonl")
			l.instances = append(l.instances, in)
		}
		for n := 1; n <= o.Envoys; n++ {
			port, err := p.Ports(2)
			if err != nil {
				return l, err
			}
			l.envoys = append(l.envoys, Envoy{
				Name: fmt.Sprintf("envoy-%s-%d", dc, n), DataCenter: dc, Listener: loopback(port), Admin: loopback(port + 1),
			})
		}
	}
	if o.North {
		return l, l.addGateway(North, 1, p)
	}
	return l, nil
}

func (l *layout) addGateway(dc string, n int, p *ports.Block) error {
	port, err := p.Ports(identity.PortsPerGateway)
	if err != nil {
		return err
	}
	l.gateways = append(l.gateways, Gateway{identity.GatewayAt(fmt.Sprintf("gw-%s-%d", dc, n), "127.0.0.1", port), dc})
	return nil
}

// spec is the cluster that keys are made for. With three data centers the first gateway of each is a voter.
func (l layout) spec() identity.Spec {
	spec := identity.Spec{Cluster: clusterName}
	var firsts []string
	for _, dc := range []string{East, West, North} {
		d := identity.DataCenter{Name: signalbox.DataCenter(dc)}
		for _, g := range l.gateways {
			if g.DataCenter == dc {
				d.Gateways = append(d.Gateways, g.Gateway)
			}
		}
		if len(d.Gateways) == 0 && dc == North {
			continue
		}
		spec.DataCenters = append(spec.DataCenters, d)
		if len(d.Gateways) > 0 {
			firsts = append(firsts, d.Gateways[0].Name)
		}
	}
	if len(firsts) == 3 {
		spec.Voters = firsts
	}
	return spec
}

// xds are the addresses that the proxies of a data center follow.
func (l layout) xds(dc string) (out []string) {
	for _, g := range l.gateways {
		if g.DataCenter == dc {
			out = append(out, g.XDS)
		}
	}
	return out
}
