package rpc_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/signalbox-io/signalbox/rpc"
)

// counting accepts signatures that say so, and counts how often it was asked.
type counting struct{ asked int }

var errUnfit = errors.New("does not fit")

func (c *counting) VerifyQuorum(scheme string, message, signature []byte) error {
	c.asked++
	if string(signature) != scheme+string(message) {
		return errUnfit
	}
	return nil
}

// TestRemember guards that only what fitted is remembered, for exactly its
// scheme, message and signature, and not without end.
func TestRemember(t *testing.T) {
	c := &counting{}
	v := rpc.Remember(c)
	check := func(scheme, message, signature string, fits bool, asked int) {
		t.Helper()
		err := v.VerifyQuorum(scheme, []byte(message), []byte(signature))
		if (err == nil) != fits || c.asked != asked {
			t.Errorf("%q %q %q: %v after %d checks, want fits %v after %d", scheme, message, signature, err, c.asked, fits, asked)
		}
	}
	check("a", "bc", "abc", true, 1)
	check("a", "bc", "abc", true, 1)
	check("ab", "c", "abc", true, 2) // the same bytes, other parts
	check("a", "bc", "abd", false, 3)
	check("a", "bc", "abd", false, 4) // a refusal is not remembered
	for i := range 300 {
		m := fmt.Sprint(i)
		check("s", m, "s"+m, true, 5+i)
	}
	check("s", "299", "s299", true, 304)
	check("a", "bc", "abc", true, 305) // forgotten, and checked again
}
