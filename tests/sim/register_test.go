package sim

import (
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/tests/register"
)

// asOne reports whether what clients of each service were answered is one register, as porcupine has it.
func asOne(t *testing.T, s *Sim) (served int, one bool) {
	t.Helper()
	one = true
	for _, all := range s.Served {
		var readings []register.Reading
		for _, r := range all {
			readings = append(readings, register.Reading{Begin: r.Begin, End: r.End, DataCenter: string(r.DataCenter), Term: uint64(r.Term)})
		}
		ok, known := register.One(readings, time.Minute)
		if !known {
			t.Error("porcupine does not know")
		}
		served, one = served+len(all), one && ok
	}
	return served, one
}

// TestRegister guards rule 2 as clients see it: whoever answers, and however late, what they read is one register of who is master.
func TestRegister(t *testing.T) {
	most := uint64(200)
	if raced {
		most = 20
	}
	served := 0
	for seed := uint64(1); seed <= most; seed++ {
		s := RunServed(seed, None)
		if s.Problem != "" || s.Masters > 0 {
			t.Fatalf("seed %d: %s (%d)", seed, s.Problem, s.Masters)
		}
		n, one := asOne(t, s)
		if served += n; !one {
			t.Errorf("seed %d: what clients read is no register", seed)
		}
	}
	t.Logf("%d answers in %d histories", served, most)
}

// TestRegisterSees guards the check itself: a history with two masters is rejected.
func TestRegisterSees(t *testing.T) {
	for _, off := range []Switch{AckWithGateOpen, ForgetsItsAck, NonceNotAsked, LeaseIgnored, LapseNotWaited, AttestsTheLiving} {
		t.Run(string(off), func(t *testing.T) {
			for seed := uint64(1); seed <= 300; seed++ {
				s := RunServed(seed, off)
				if s.Masters == 0 {
					continue
				}
				if _, one := asOne(t, s); !one {
					t.Logf("seed %d: two masters after %d events, and no register", seed, s.Masters)
					return
				}
			}
			t.Error("not seen")
		})
	}
}
