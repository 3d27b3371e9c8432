package main

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // freeze windows name zones, and not every machine has them

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/policy"
)

// RulesConfig holds a service's safety rules.
type RulesConfig struct {
	MinStanding  uint16         `yaml:"min_standing" doc:"how many instances must stand ready on the new side; default: one"`
	MinInterval  Duration       `yaml:"min_interval" doc:"what must lie between two moves; one way back is allowed within it"`
	Approvals    uint16         `yaml:"approvals" doc:"how many operators other than the one who asks must approve; 1 is the two-person rule"`
	ApprovalWait Duration       `yaml:"approval_wait" doc:"how long an order waits for approval, at most 7d; default: 1h"`
	Freeze       []FreezeConfig `yaml:"freeze" doc:"times in which no planned handover begins; a failover does"`
}

// FreezeConfig is a time in which no planned handover begins.
type FreezeConfig struct {
	Name  string   `yaml:"name" required:"true" doc:"what it is for; shown to who is stopped by it"`
	Zone  string   `yaml:"zone" doc:"time zone of its clock, as in Europe/Berlin; default: UTC"`
	Days  []string `yaml:"days" doc:"weekdays on which a daily window begins, as in mon-fri or sat; default: every day"`
	From  string   `yaml:"from" required:"true" doc:"its beginning: 16:00 every day or on days, fri 16:00 every week, or 2026-12-20 16:00 once"`
	Until string   `yaml:"until" required:"true" doc:"its end, in the same form; a time of day that is not after from lies on the next day"`
}

// maxFreezes is how many freeze windows a service has at most.
const maxFreezes = 64

// rules are what the gateway holds orders to; the file has been checked.
func (r *RulesConfig) rules() policy.Rules {
	if r == nil {
		return policy.Rules{}
	}
	out := policy.Rules{
		MinStanding: int(r.MinStanding), MinInterval: time.Duration(r.MinInterval),
		Approvals: int(r.Approvals), ApprovalWait: time.Duration(r.ApprovalWait),
	}
	for i := range r.Freeze {
		if f, err := r.Freeze[i].freeze(); err == nil {
			out.Freezes = append(out.Freezes, f)
		}
	}
	return out
}

// freeze reads a window; the error says what is wrong with it.
func (f *FreezeConfig) freeze() (policy.Freeze, error) {
	out := policy.Freeze{Name: f.Name}
	var err error
	if f.Zone == "Local" {
		return out, fmt.Errorf("zone Local: name one, as in Europe/Berlin: gateways must not disagree")
	}
	if out.Zone, err = time.LoadLocation(f.Zone); err != nil {
		return out, fmt.Errorf("zone %q: want a name as in Europe/Berlin", f.Zone)
	}
	begin, once := f.date(f.From, out.Zone)
	if !once {
		out.Spans, err = policy.ParseSpans(f.Days, f.From, f.Until)
		return out, err
	}
	end, ok := f.date(f.Until, out.Zone)
	switch {
	case !ok || len(f.Days) > 0:
		return out, fmt.Errorf("%q to %q: a window that comes once has a date in both, and no days", f.From, f.Until)
	case !end.After(begin):
		return out, fmt.Errorf("%q is not after %q", f.Until, f.From)
	}
	out.Begin, out.End = begin, end
	return out, nil
}

// date reads 2026-12-20 16:00, or 2026-12-20 for its first moment.
func (f *FreezeConfig) date(s string, zone *time.Location) (time.Time, bool) {
	for _, layout := range []string{"2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, zone); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func (s *ServiceConfig) checkRules(p *problems, at string) {
	r := s.Rules
	if r == nil {
		return
	}
	at += ".rules"
	if r.MinInterval < 0 || r.ApprovalWait < 0 || time.Duration(r.ApprovalWait) > signalbox.MaxApprovalWait {
		p.add(at, "min_interval and approval_wait: want 0s or more, approval_wait at most %s", Duration(signalbox.MaxApprovalWait))
	}
	if len(r.Freeze) > maxFreezes {
		p.add(at+".freeze", "%d windows: want at most %d", len(r.Freeze), maxFreezes)
	}
	for i := range r.Freeze {
		f := &r.Freeze[i]
		here := fmt.Sprintf("%s.freeze[%d]", at, i)
		p.required(here+".name", f.Name)
		p.name(here+".name", f.Name)
		if _, err := f.freeze(); err != nil {
			p.add(here, "%s", strings.TrimPrefix(err.Error(), signalbox.ErrInvalid.Error()+": "))
		}
	}
}

// checkDepends: what a service depends on exists, and nothing depends on itself.
func (c *GatewayConfig) checkDepends(p *problems) {
	depends := map[string][]string{}
	for i := range c.Services {
		depends[c.Services[i].Name] = c.Services[i].DependsOn
	}
	for i := range c.Services {
		for j, on := range c.Services[i].DependsOn {
			if _, known := depends[on]; !known {
				p.add(fmt.Sprintf("services[%d].depends_on[%d]", i, j), "%q is none of the services", on)
			}
		}
	}
	if _, _, err := policy.DependencyOrder(depends); err != nil {
		p.add("services", "depends_on: %s", strings.TrimPrefix(err.Error(), signalbox.ErrInvalid.Error()+": "))
	}
}
