package gossip

import (
	"fmt"
	stdlog "log"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	retransmitMult  = 4
	gossipNodes     = 3
	reclaimDeadName = time.Second // a restarted member may come back elsewhere
	bindAttempts    = 10          // the free TCP port may be taken for UDP
)

// listen opens the real network.
func listen(host string, port int, logger *stdlog.Logger) (memberlist.Transport, error) {
	var err error
	for range bindAttempts {
		var t *memberlist.NetTransport
		t, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{host}, BindPort: port, Logger: logger,
		})
		if err == nil {
			return t, nil
		}
		if port != 0 || !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	return nil, fmt.Errorf("listen on %s port %d: %w", host, port, err)
}

func (p *Pool) libraryConfig(logger *stdlog.Logger) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	o := &p.opts
	c.Name = o.Name
	c.Label = o.Label
	c.Transport = p.guard
	c.Keyring = p.ring
	c.Logger = logger
	c.BindAddr, c.BindPort = o.BindHost, o.BindPort
	c.AdvertiseAddr, c.AdvertisePort = o.AdvertiseHost, o.AdvertisePort
	if n, ok := p.guard.inner.(*memberlist.NetTransport); ok {
		c.BindPort = n.GetAutoBindPort()
		if c.AdvertisePort == 0 {
			c.AdvertisePort = c.BindPort
		}
	}
	c.UDPBufferSize = packetBuffer
	c.TCPTimeout = o.StreamTimeout
	c.PushPullInterval = o.PushPullInterval
	c.GossipInterval = o.GossipInterval
	c.GossipNodes = gossipNodes
	c.RetransmitMult = retransmitMult
	c.ProbeInterval = o.ProbeInterval
	c.ProbeTimeout = o.ProbeTimeout
	c.DeadNodeReclaimTime = reclaimDeadName
	c.EnableCompression = false // signatures do not shrink
	c.Delegate = delegate{p}
	c.Events = delegate{p}
	c.Alive = delegate{p}
	c.Conflict = delegate{p}
	return c
}
