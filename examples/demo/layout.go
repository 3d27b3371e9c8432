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

const localhost = "127.0.0.1"

func loopback(port int) string { return net.JoinHostPort(localhost, strconv.Itoa(port)) }

// host is the address of a data center's processes.
func (o *Options) host(dc string) string {
	if p, ok := o.Places[dc]; ok {
		return p.Host
	}
	return localhost
}

// at is a port of a data center.
func (o *Options) at(dc string, port int) string {
	return net.JoinHostPort(o.host(dc), strconv.Itoa(port))
}

// lay gives everybody a name and ports.
func lay(o Options, dir string, p *ports.Block) (layout, error) {
	var l layout
	for _, dc := range DataCenters() {
		for n := 1; n <= o.Gateways && o.Bare == ""; n++ {
			if err := l.addGateway(o.host(dc), dc, n, p); err != nil {
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
				Address: o.at(dc, port), Gossip: o.at(dc, port+2), Metrics: o.at(dc, port+3),
			}
			if in.Driver == DriverHTTP {
				in.Control, in.Agent = o.at(dc, port+1), fmt.Sprintf("agent-%s-%d", dc, n)
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
				Name: fmt.Sprintf("envoy-%s-%d", dc, n), DataCenter: dc, Listener: o.at(dc, port), Admin: o.at(dc, port+1),
			})
		}
	}
	for n := 1; o.North && n <= o.NorthGateways; n++ {
		if err := l.addGateway(o.host(North), North, n, p); err != nil {
			return l, err
		}
	}
	return l, nil
}

func (l *layout) addGateway(host, dc string, n int, p *ports.Block) error {
	port, err := p.Ports(identity.PortsPerGateway)
	if err != nil {
		return err
	}
	l.gateways = append(l.gateways, Gateway{identity.GatewayAt(fmt.Sprintf("gw-%s-%d", dc, n), host, port), dc})
	return nil
}

// spec is the cluster that keys are made for, with so many voters; 0: with three data centers the first gateway of each,
// else the first of all.
func (l layout) spec(voters int) identity.Spec {
	spec := identity.Spec{Cluster: clusterName}
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
	}
	if voters == 0 && len(spec.DataCenters) == 3 {
		voters = 3
	}
	for turn := 0; len(spec.Voters) < voters && turn < MaxGateways; turn++ {
		for _, d := range spec.DataCenters {
			if turn < len(d.Gateways) && len(spec.Voters) < voters {
				spec.Voters = append(spec.Voters, d.Gateways[turn].Name)
			}
		}
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
