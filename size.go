package signalbox

import "fmt"

// Size writes a number of bytes for people: whole bytes below 10 KiB, then KiB,
// MiB and GiB, each from 10 on, rounded down.
func Size(n uint64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	case n < 10<<30:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d GiB", n>>30)
}
