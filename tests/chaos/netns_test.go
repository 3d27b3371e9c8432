//go:build chaos

package chaos

import (
	"context"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
)

var seed = flag.Uint64("seed", 1, "of the moments at which the networks' faults begin")

// stormy bounds one fault, from a steady site to the next.
const stormy = 3 * time.Minute

// TestNetworks has partitions, frozen, stopped and killed processes and full disks meet switches and failovers, between
// data centers that are network namespaces. Rule: no dual master, nothing acknowledged is lost, nothing frozen answers as
// master when it wakes up; once the fault is over every handover ends, with one outcome, and nobody stays held.
func TestNetworks(t *testing.T) {
	binaries := built(t)
	for _, v := range []Voters{FourVoters(), SixVoters()} {
		t.Run(v.Name, func(t *testing.T) { storms(t, v, binaries) })
	}
}

func storms(t *testing.T, v Voters, binaries demo.Binaries) {
	random := rand.New(rand.NewPCG(*seed, uint64(v.Options.Voters)))
	disks := t.TempDir() // removed after the kernel's own cleanup
	var names []string
	for _, f := range SwitchFaults() {
		if f.Disk != "" {
			names = append(names, f.Disk)
		}
	}
	k := kernel(t, v, binaries, disks, names...)
	var loads []*demo.Load
	run := func(s Storm) {
		t.Run(s.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), stormy)
			defer cancel()
			made, told, err := s.Run(ctx, k)
			loads = append(loads, made...)
			if t.Log(told); err != nil {
				t.Fatal(err)
			}
		})
	}
	for range *rounds {
		for _, f := range SwitchFaults() {
			s := Storm{Fault: f, At: moment(random), Lasts: time.Duration(1+random.IntN(5)) * time.Second}
			if f.Disk != "" { // later there may be room for what one handover still writes
				s.At = -time.Duration(200+random.IntN(1000)) * time.Millisecond
			}
			run(s)
		}
		for n := 0; v.Options.Failover != "" && n < len(FailoverFaults(demo.East)); n++ {
			service, err := k.API().Service(t.Context(), demo.Service)
			if err != nil {
				t.Fatal(err)
			}
			run(Storm{
				Fault: FailoverFaults(service.Master)[n], Failover: true, At: sooner(random),
				Lasts: LeaseTTL + 3*time.Second + time.Duration(random.IntN(3000))*time.Millisecond,
			})
		}
	}
	judged(t, k.JudgeLenient, loads)
}

// sooner is mostly before the order of a failover: who can be asked acks, and then nothing has to lapse.
func sooner(random *rand.Rand) time.Duration {
	if random.IntN(5) == 0 {
		return time.Duration(random.IntN(60)) * time.Millisecond
	}
	return -time.Duration(100+random.IntN(1500)) * time.Millisecond
}

// moment is shortly before or after an order: a handover takes some 100 ms here.
func moment(random *rand.Rand) time.Duration {
	if random.IntN(4) == 0 {
		return -time.Duration(random.IntN(1500)) * time.Millisecond
	}
	return time.Duration(random.IntN(200)) * time.Millisecond
}
