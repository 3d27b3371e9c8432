package demo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
)

// Ports are taken in blocks from below the kernel's range for outgoing connections: a process that was killed finds its
// port free when it is back, however many connections the load makes meanwhile.
const (
	lowestPort = 10_000
	portBlock  = 200
	portTries  = 500
)

// ports hands out the ports of one block, which is this site's while the block's first port is held.
type ports struct {
	hold net.Listener
	next int
	end  int
}

func takePorts() (*ports, error) {
	blocks := (lowestOutgoing() - lowestPort) / portBlock
	if blocks < 1 {
		return nil, errors.New("take ports: the kernel's range for outgoing connections (net.ipv4.ip_local_port_range) begins too low")
	}
	for range portTries {
		first := lowestPort + rand.IntN(blocks)*portBlock
		hold, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first))
		if err == nil {
			return &ports{hold: hold, next: first + 1, end: first + portBlock}, nil
		}
	}
	return nil, errors.New("take ports: found no free block on 127.0.0.1")
}

// take returns the first of n consecutive ports that are free for TCP and UDP.
func (p *ports) take(n int) (int, error) {
	for first := p.next; first+n <= p.end; first++ {
		if free(first, n) {
			p.next = first + n
			return first, nil
		}
	}
	return 0, fmt.Errorf("take ports: the %d ports of a site are used up", portBlock)
}

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

func (p *ports) close() { _ = p.hold.Close() }

// lowestOutgoing is the lowest port of the kernel's range for outgoing connections; Linux's default where it is unknown.
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
