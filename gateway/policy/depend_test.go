package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/policy"
)

// TestDependencyOrder guards that an evacuation moves what others depend on
// first, also through services in between.
func TestDependencyOrder(t *testing.T) {
	order, after, err := policy.DependencyOrder(map[string][]string{
		"web": {"orders", "sessions"}, "orders": {"ledger", "elsewhere"}, "ledger": nil, "sessions": nil, "alone": nil,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "alone ledger orders sessions web" {
		t.Errorf("order %s", got)
	}
	if !slices.Equal(after["web"], []string{"ledger", "orders", "sessions"}) || len(after["alone"]) != 0 {
		t.Errorf("after %v", after)
	}
	for _, circle := range []map[string][]string{
		{"a": {"a"}}, {"a": {"b"}, "b": {"c"}, "c": {"a"}}, {"z": {"a"}, "a": {"b"}, "b": {"a"}},
	} {
		if _, _, err := policy.DependencyOrder(circle); !errors.Is(err, signalbox.ErrInvalid) || !strings.Contains(err.Error(), "->") {
			t.Errorf("%v: %v", circle, err)
		}
	}
}
