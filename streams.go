package signalbox

import "fmt"

// StreamPolicy says what becomes of a service's streams (upgraded connections,
// event streams: what lives much longer than a request) that outlive the drain of
// everything else when its master steps down.
type StreamPolicy uint8

// The policies.
const (
	// StreamsWait drains streams like any other request: they delay the handover,
	// and one that outlives the hold budget has it given up.
	StreamsWait StreamPolicy = iota
	// StreamsCut ends them when the master closes; their callers connect anew.
	StreamsCut
	// StreamsAbort gives the handover up at once when nothing but streams is left
	// in flight. Where a handover cannot be voided any more it waits.
	StreamsAbort
)

// String returns the word of configuration files.
func (p StreamPolicy) String() string {
	switch p {
	case StreamsWait:
		return "wait"
	case StreamsCut:
		return "cut"
	case StreamsAbort:
		return "abort"
	}
	return fmt.Sprintf("streams(%d)", uint8(p))
}

// ParseStreamPolicy reads what String writes; ErrInvalid for anything else.
func ParseStreamPolicy(text string) (StreamPolicy, error) {
	for p := StreamsWait; p <= StreamsAbort; p++ {
		if p.String() == text {
			return p, nil
		}
	}
	return 0, fmt.Errorf("%w: streams %q: want wait, cut or abort", ErrInvalid, text)
}
