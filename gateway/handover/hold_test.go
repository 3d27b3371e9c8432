package handover

import "testing"

// TestHoldWords guards that a record does not say of a gateway without proxies that
// nobody holds.
func TestHoldWords(t *testing.T) {
	for want, h := range map[string]Held{
		"no proxy is connected to this gateway": {Complete: true},
		"2 proxies hold":                        {Proxies: []ProxyHold{{ID: "a", Acknowledged: true}, {ID: "b", Acknowledged: true}}},
		"1 of 2 proxies hold; late: b":          {Proxies: []ProxyHold{{ID: "a", Acknowledged: true}, {ID: "b"}}},
	} {
		if got := holdDetail(h); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
