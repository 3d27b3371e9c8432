package ports

import (
	"fmt"
	"net"
	"testing"
)

// Rule: no port is handed out twice, by one block or by two that are held at once.
func TestNoPortTwice(t *testing.T) {
	seen := map[int]bool{}
	for range 3 {
		b, err := Take()
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		for range 20 {
			first, err := b.Ports(3)
			if err != nil {
				t.Fatal(err)
			}
			for port := first; port < first+3; port++ {
				if seen[port] {
					t.Errorf("port %d twice", port)
				}
				seen[port] = true
			}
		}
	}
}

// Rule: ports are below the kernel's range for outgoing connections, free for TCP and UDP, and of one holder only.
func TestPortsAreOnesOwn(t *testing.T) {
	one, err := Take()
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	busy, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", one.next+1))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	first, err := one.Ports(3)
	if err != nil {
		t.Fatal(err)
	}
	if taken := busy.LocalAddr().(*net.UDPAddr).Port; first <= taken && taken < first+3 {
		t.Errorf("took %d to %d, and %d is in use", first, first+2, taken)
	}
	if first+3 > lowestOutgoing() {
		t.Errorf("port %d may be taken by an outgoing connection (from %d on)", first+2, lowestOutgoing())
	}
	if _, err := one.Ports(blockSize); err == nil {
		t.Error("took more ports than a block has")
	}
	again, err := net.Listen("tcp", one.hold.Addr().String())
	if err == nil {
		_ = again.Close()
		t.Error("somebody else can take the same block")
	}
}
