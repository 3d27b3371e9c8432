package coordinator

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
)

const (
	// maxHolds is how many handovers a prediction stands on at most.
	maxHolds = 20
	// maxLookBack is how many records are read for them after a start.
	maxLookBack = 500
)

// keepHold remembers how long a handover that went forward held requests.
func (s *service) keepHold(d time.Duration) {
	s.holds = append(s.holds, d)
	s.holds = s.holds[max(0, len(s.holds)-maxHolds):]
}

// predicted is the median hold of the newest handovers that went forward, and
// what it stands on; 0 when there was none.
func (s *service) predicted() (ms float64, from string) {
	n := len(s.holds)
	if n == 0 {
		return 0, ""
	}
	sorted := slices.Clone(s.holds)
	slices.Sort(sorted)
	if n == 1 {
		return sinceMS(sorted[0]), "the last handover of this service, as this gateway saw it"
	}
	return sinceMS(sorted[n/2]), fmt.Sprintf("median of the last %d handovers of this service, as this gateway saw them; the longest took %s", n, sorted[n-1].Round(time.Millisecond))
}

// loadHolds takes the holds of the newest records in after a start.
func (c *Coordinator) loadHolds() {
	read := 0
	err := c.opt.Journal.Records(func(_ string, raw []byte) bool {
		var h struct {
			Service, Outcome string
			HoldMS           *float64 `json:"hold_ms"`
		}
		if json.Unmarshal(raw, &h) == nil && h.HoldMS != nil && h.Outcome == api.OutcomeForward {
			if s := c.services[signalbox.Service(h.Service)]; s != nil && len(s.holds) < maxHolds {
				s.holds = append(s.holds, time.Duration(*h.HoldMS*float64(time.Millisecond)))
			}
		}
		read++
		return read < maxLookBack
	})
	if err != nil {
		c.opt.Logger.Warn().Err(err).Msg("past records cannot be read: plans predict no hold")
	}
	for _, s := range c.services {
		slices.Reverse(s.holds) // newest last
	}
}
