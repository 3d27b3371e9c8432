package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// check implements checkable.
func (c *GatewayConfig) check() []problem {
	var p problems
	p.required("bundle", c.Bundle)
	p.required("state", c.State)
	p.name("cluster", c.Cluster)
	p.name("data_center", c.DataCenter)
	p.name("name", c.Name)
	p.addresses("listen", c.Listen.addresses())
	seen := map[string]int{}
	ports := map[string]string{}
	for i := range c.Services {
		s := &c.Services[i]
		at := fmt.Sprintf("services[%d]", i)
		if before, twice := seen[s.Name]; twice && s.Name != "" {
			p.add(at+".name", "service %q stands twice, first as services[%d]", s.Name, before)
		} else {
			seen[s.Name] = i
		}
		s.check(&p, at, c.Timing)
		s.checkListener(&p, at, ports)
		s.checkRules(&p, at)
		s.checkFailover(&p, at, c.Timing)
	}
	c.checkDepends(&p)
	c.checkDataCenters(&p)
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "json", "console")
	if c.Timing.Margin < Duration(time.Second) {
		p.add("timing.margin", "%s is too short: want at least 1s", c.Timing.Margin)
	}
	if c.Timing.AgreementTimeout < Duration(100*time.Millisecond) {
		p.add("timing.agreement_timeout", "%s is too short: want at least 100ms", c.Timing.AgreementTimeout)
	}
	return p
}

func (s *ServiceConfig) check(p *problems, at string, timing TimingConfig) {
	p.required(at+".name", s.Name)
	p.name(at+".name", s.Name)
	p.oneOf(at+".protocol", s.Protocol, "http", "http2", "grpc", "tcp")
	p.oneOf(at+".mode", s.Mode, "manage", "observe")
	p.oneOf(at+".drain", s.Drain, "wait", "cut", "abort")
	if s.Drain != "wait" && s.Protocol == string(resource.TCP) {
		p.add(at+".drain", "%s: a TCP service has connections and no streams; its instances close them when they step down", s.Drain)
	}
	seen := map[string]bool{}
	for i, dc := range s.DataCenters {
		p.name(fmt.Sprintf("%s.data_centers[%d]", at, i), dc)
		if seen[dc] {
			p.add(fmt.Sprintf("%s.data_centers[%d]", at, i), "data center %q stands twice", dc)
		}
		seen[dc] = true
	}
	if s.HoldBudget <= 0 || s.ConnectTimeout <= 0 {
		p.add(at, "hold_budget and connect_timeout: want more than 0s")
	}
	if most := Duration(signalbox.MaxHoldBudget); s.HoldBudget > most {
		p.add(at+".hold_budget", "%s is too long: want at most %s", s.HoldBudget, most)
	}
	if least := s.HoldBudget + timing.AgreementTimeout + timing.Margin; s.HoldTimeout < least {
		p.add(at+".hold_timeout", "%s is too short: a handover and its way back may take %s (hold_budget %s + timing.agreement_timeout %s + timing.margin %s), and proxies must hold longer",
			s.HoldTimeout, least, s.HoldBudget, timing.AgreementTimeout, timing.Margin)
	}
	most := Duration(resource.MaxHoldTimeout)
	if s.Protocol == string(resource.TCP) {
		most = Duration(resource.MaxTCPHold)
	}
	if s.HoldTimeout > most {
		p.add(at+".hold_timeout", "%s is too long: want at most %s for %s", s.HoldTimeout, most, s.Protocol)
	}
}

func (s *ServiceConfig) checkListener(p *problems, at string, ports map[string]string) {
	if s.Listener == nil {
		return
	}
	at += ".listener"
	p.ip(at+".address", s.Listener.Address)
	if s.Listener.Port == 0 {
		p.add(at+".port", "is missing: want 1 to 65535")
		return
	}
	for taken, by := range ports {
		address, port, _ := strings.Cut(taken, "|")
		if port == fmt.Sprint(s.Listener.Port) && (address == s.Listener.Address || isAny(address) || isAny(s.Listener.Address)) {
			p.add(at+".port", "port %d is taken by service %q", s.Listener.Port, by)
			return
		}
	}
	ports[fmt.Sprintf("%s|%d", s.Listener.Address, s.Listener.Port)] = s.Name
}

func isAny(address string) bool { return address == "0.0.0.0" || address == "::" }

func (c *GatewayConfig) checkDataCenters(p *problems) {
	seen := map[string]bool{}
	for i, dc := range c.DataCenters {
		at := fmt.Sprintf("data_centers[%d]", i)
		p.required(at+".name", dc.Name)
		p.name(at+".name", dc.Name)
		if seen["dc "+dc.Name] {
			p.add(at+".name", "data center %q stands twice", dc.Name)
		}
		seen["dc "+dc.Name] = true
		for j := range dc.Gateways {
			g := &dc.Gateways[j]
			at := fmt.Sprintf("%s.gateways[%d]", at, j)
			p.required(at+".name", g.Name)
			p.name(at+".name", g.Name)
			if seen[g.Name] {
				p.add(at+".name", "gateway %q stands twice", g.Name)
			}
			seen[g.Name] = true
			p.addresses(at, g.addresses())
		}
	}
}
