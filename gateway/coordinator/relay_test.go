package coordinator

import (
	"encoding/binary"
	"testing"
)

// TestVerifiedIsBounded guards that what was verified is known by its exact bytes, and that ever new ones push the oldest
// out instead of filling the memory.
func TestVerifiedIsBounded(t *testing.T) {
	var v verified[int]
	raw := func(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
	for n := range maxVerified + 10 {
		v.put(raw(n), n)
		v.put(raw(n), -1)
	}
	if len(v.said) != maxVerified || len(v.order) != maxVerified {
		t.Fatalf("%d and %d are kept, want %d", len(v.said), len(v.order), maxVerified)
	}
	if _, ok := v.get(raw(9)); ok {
		t.Error("the oldest is still there")
	}
	if n, ok := v.get(raw(10)); !ok || n != 10 {
		t.Errorf("10 is %d, %t", n, ok)
	}
	if _, ok := v.get(append(raw(10), 0)); ok {
		t.Error("other bytes are known")
	}
}
