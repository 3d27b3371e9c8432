package agreement

import "testing"

// TestEndedBeforeRestart guards progress: two of three voters ended a view and
// started again, and each hears of the other's timeout before it repeats its own.
func TestEndedBeforeRestart(t *testing.T) {
	w := newNetwork(t, 3, 1)
	w.want = 1
	w.nodes[0].r = nil // leads view 1
	for _, n := range w.nodes[1:] {
		w.settle(n)
	}
	w.now = w.next()
	for _, n := range w.nodes[1:] {
		w.tick(n)
	}
	said := w.bag
	w.bag = nil
	for _, n := range w.nodes[1:] {
		w.restart(n)
	}
	for _, p := range said {
		w.deliver(p)
	}
	w.heal(60 * DefaultTimeout)
}
