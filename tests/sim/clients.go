package sim

import (
	"time"

	"github.com/signalbox-io/signalbox"
)

// Served is what a client was answered: when it asked and heard, who served it, and at what term. Times are nanoseconds.
type Served struct {
	Begin, End int64
	DataCenter signalbox.DataCenter
	Term       signalbox.Term
}

// ask has clients ask instances of a service, one after the other and at the same time, as long as there are faults. An instance
// looks at its gate once, where it works on the request.
func (s *Sim) ask(n int) {
	if !s.faults && s.since > int64(s.plan.faultsFor) {
		return
	}
	s.after(s.between(time.Millisecond, 8*time.Millisecond), func() { s.ask(n) })
	a := s.anyAgent()
	if a.n != n {
		return
	}
	begin := s.since
	s.after(s.between(200*time.Microsecond, 20*time.Millisecond), func() {
		if !a.open() {
			return
		}
		dc, term := a.DataCenter, a.serving
		s.after(s.between(200*time.Microsecond, 20*time.Millisecond), func() {
			s.Served[n] = append(s.Served[n], Served{begin, s.since, dc, term})
		})
	})
}
