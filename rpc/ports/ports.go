// Package ports hands out ports of 127.0.0.1 to sites that run on one machine,
// in several processes at once.
//
// It guarantees that no two holders of a block, in whatever process, are handed
// the same port, and that a port is outside the kernel's range for outgoing
// connections: a process that was stopped finds its port free when it is back,
// however many connections others make meanwhile. It does not guarantee anything
// against programs that listen on ports of that range without asking here.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
)

const (
	lowest    = 10_000
	blockSize = 200
	tries     = 500
)

// Block is a run of ports that is its holder's while the first of them is held.
// Safe for concurrent use.
type Block struct {
	hold net.Listener

	mu   sync.Mutex
	next int
	end  int
}

// Take returns a block that nobody holds. Close gives it back.
func Take() (*Block, error) {
	blocks := (lowestOutgoing() - lowest) / blockSize
	if blocks < 1 {
		return nil, errors.New("take ports: the kernel's range for outgoing connections (net.ipv4.ip_local_port_range) begins too low")
	}
	for range tries {
		first := lowest + rand.IntN(blocks)*blockSize
		hold, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first))
		if err == nil {
			return &Block{hold: hold, next: first + 1, end: first + blockSize}, nil
		}
	}
	return nil, errors.New("take ports: found no free block on 127.0.0.1")
}

// Ports returns the first of n consecutive ports that are free for TCP and UDP,
// and hands none of them out again.
func (b *Block) Ports(n int) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for first := b.next; first+n <= b.end; first++ {
		if free(first, n) {
			b.next = first + n
			return first, nil
		}
	}
	return 0, fmt.Errorf("take ports: the %d ports of a block are used up", blockSize)
}

// Close gives the block back.
func (b *Block) Close() { _ = b.hold.Close() }

func free(first, n int) bool {
	for port := first; port < first+n; port++ {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			return false
		}
		_ = tcp.Close() // it was only asked whether it is free
		udp, err := net.ListenPacket("udp", address)
		if err != nil {
			return false
		}
		_ = udp.Close()
	}
	return true
}

// lowestOutgoing is the lowest port of the kernel's range for outgoing
// connections; Linux's default where it is unknown.
func lowestOutgoing() int {
	const usual = 32768
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	low := 0
	if err != nil {
		return usual
	}
	if _, err := fmt.Sscan(strings.TrimSpace(string(data)), &low); err != nil || low <= 0 {
		return usual
	}
	return low
}
