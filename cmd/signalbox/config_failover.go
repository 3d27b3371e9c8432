package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/coordinator"
	"github.com/signalbox-io/signalbox/gateway/fence"
	"github.com/signalbox-io/signalbox/gateway/handover"
)

// FailoverConfig says how a service may be failed over.
type FailoverConfig struct {
	Mode     string        `yaml:"mode" enum:"manual,automatic" doc:"automatic: failed over without anybody asking when a quorum of voters has heard of no agent of the master's data center for silence; needs lapse or fence; default: manual"`
	Silence  Duration      `yaml:"silence" doc:"with automatic: how long, at least 2s; default: 10s"`
	Evidence []string      `yaml:"evidence" doc:"what counts for an instance that does not ack: attest (a person takes responsibility), fence (a plugin), lapse (instances serve only while a quorum of voters renews their lease, which then ran out); default: attest"`
	LeaseTTL Duration      `yaml:"lease_ttl" doc:"with lapse: how long an instance serves on without the voters, 200ms to 1m; default: 3s"`
	Fence    []FenceConfig `yaml:"fence" doc:"the fencing plugin of each data center"`
}

// FenceConfig is a data center's fencing plugin.
type FenceConfig struct {
	DataCenter string   `yaml:"data_center" required:"true" doc:"data center whose instances it cuts off"`
	Name       string   `yaml:"name" required:"true" doc:"what evidence and records call it"`
	Command    []string `yaml:"command" required:"true" doc:"absolute path and arguments; docs/operations has the contract"`
	Deadline   Duration `yaml:"deadline" doc:"how long one run may take, at most 5m; default: 30s"`
}

const (
	modeAutomatic   = "automatic"
	defaultLeaseTTL = 3 * time.Second
	// leaseDrift bounds how far clocks run apart, in parts per million.
	leaseDrift = 10_000
)

func (f *FenceConfig) plugin() *fence.Plugin {
	return &fence.Plugin{Label: f.Name, Command: f.Command, Deadline: time.Duration(f.Deadline)}
}

// kinds reads the evidence; an unknown word is named by the error.
func (f *FailoverConfig) kinds() (signalbox.EvidenceKinds, error) {
	if f == nil || len(f.Evidence) == 0 {
		return signalbox.EvidenceKinds(signalbox.Attest), nil
	}
	kinds, err := signalbox.ParseEvidenceKinds(strings.Join(f.Evidence, "+"))
	if err == nil && kinds&signalbox.AckOnly != 0 {
		err = fmt.Errorf("%s: acks and leaves always count: want attest, fence or lapse", kinds&signalbox.AckOnly)
	}
	return kinds, err
}

// leases are those of the service's terms, none without lapse.
func (f *FailoverConfig) leases() signalbox.Leases {
	kinds, err := f.kinds()
	if err != nil || !kinds.Has(signalbox.Lapse) {
		return signalbox.Leases{}
	}
	ttl := time.Duration(f.LeaseTTL)
	if ttl == 0 {
		ttl = defaultLeaseTTL
	}
	return signalbox.Leases{TTL: ttl, Drift: leaseDrift}
}

// into fills in what the coordinator needs; the file has been checked.
func (f *FailoverConfig) into(s *coordinator.Service) {
	s.Evidence, _ = f.kinds() // checked
	s.Leases = f.leases()
	if f == nil {
		return
	}
	if f.automatic() {
		s.Automatic = f.silence()
	}
	s.Fences = map[signalbox.DataCenter]coordinator.Fencer{}
	for i := range f.Fence {
		s.Fences[signalbox.DataCenter(f.Fence[i].DataCenter)] = f.Fence[i].plugin()
	}
}

func (f *FailoverConfig) automatic() bool { return f != nil && f.Mode == modeAutomatic }

// fences reports whether a data center has a plugin.
func (f *FailoverConfig) fences(dc signalbox.DataCenter) bool {
	for i := range f.Fence {
		if f.Fence[i].DataCenter == string(dc) {
			return true
		}
	}
	return false
}

func (f *FailoverConfig) silence() time.Duration {
	if f.Silence == 0 {
		return handover.DefaultSilence
	}
	return time.Duration(f.Silence)
}

func (s *ServiceConfig) checkAutomatic(p *problems, at string, kinds signalbox.EvidenceKinds) {
	f := s.Failover
	p.oneOf(at+".mode", f.Mode, "", "manual", modeAutomatic)
	switch {
	case !f.automatic():
		if f.Silence != 0 {
			p.add(at+".silence", "is for mode: automatic")
		}
	case !kinds.Has(signalbox.Lapse) && !kinds.Has(signalbox.Fence):
		p.add(at+".mode", "automatic needs evidence that comes without a person: lapse (leases) or fence (a plugin); evidence is %s", kinds)
	case s.Rules != nil && s.Rules.Approvals > 0:
		p.add(at+".mode", "automatic: nobody asks, so nobody can approve: take out rules.approvals, or fail over by hand (manual)")
	case f.silence() < handover.MinSilence:
		p.add(at+".silence", "%s is too short: want at least %s", f.Silence, Duration(handover.MinSilence))
	}
}

func (s *ServiceConfig) checkFailover(p *problems, at string, timing TimingConfig) {
	at += ".failover"
	kinds, err := s.Failover.kinds()
	if err != nil {
		p.add(at+".evidence", "%v", err)
		return
	}
	if s.Failover == nil {
		return
	}
	s.checkAutomatic(p, at, kinds)
	s.checkLeases(p, at+".lease_ttl", timing)
	if kinds.Has(signalbox.Fence) != (len(s.Failover.Fence) > 0) {
		p.add(at+".fence", "a plugin and fence in evidence belong together: give both or neither")
	}
	seen := map[string]bool{}
	for i := range s.Failover.Fence {
		f := &s.Failover.Fence[i]
		in := fmt.Sprintf("%s.fence[%d]", at, i)
		p.required(in+".data_center", f.DataCenter)
		p.name(in+".data_center", f.DataCenter)
		if err := f.plugin().Check(); err != nil {
			p.add(in, "%v", err)
		}
		if seen[f.DataCenter] {
			p.add(in+".data_center", "data center %q stands twice", f.DataCenter)
		}
		seen[f.DataCenter] = true
	}
}

func (s *ServiceConfig) checkLeases(p *problems, at string, timing TimingConfig) {
	leases := s.Failover.leases()
	if !leases.Used() {
		if s.Failover.LeaseTTL != 0 {
			p.add(at, "leases are for a service whose evidence has lapse")
		}
		return
	}
	if err := leases.Check(); err != nil {
		p.add(at, "%v", err)
		return
	}
	wait := Duration(leases.LapseWait())
	if least := s.HoldBudget + wait + timing.AgreementTimeout + timing.Margin; s.HoldTimeout < least {
		p.add(at, "hold_timeout %s is too short: a failover by lapse may take %s (hold_budget %s + the wait for leases %s + timing.agreement_timeout %s + timing.margin %s), and proxies must hold longer",
			s.HoldTimeout, least, s.HoldBudget, wait, timing.AgreementTimeout, timing.Margin)
	}
}
