package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// queueLength is how many packets may be on their way from one network to another; what comes then is dropped.
	queueLength = 8192
	packetSize  = 64 << 10 // the largest of IPv4
	firstFile   = 3        // of exec.Cmd.ExtraFiles
)

// shimOrder is what a shim is to do.
type shimOrder struct {
	Delay    time.Duration
	Networks int
}

// runShim forwards between the TUN devices that it was given until end is at its end.
func runShim(text string, end io.Reader) error {
	var order shimOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		return fmt.Errorf("read order: %w", err)
	}
	if order.Networks < 1 || order.Networks > MaxDataCenters || order.Delay < 0 || order.Delay > MaxDelay {
		return fmt.Errorf("order %+v is out of bounds", order)
	}
	var ports []io.ReadWriter
	for i := range order.Networks {
		if err := unix.SetNonblock(firstFile+i, true); err != nil { // for the runtime's poller
			return err
		}
		ports = append(ports, os.NewFile(uintptr(firstFile+i), farDevice))
	}
	failed := forward(order.Delay, ports)
	over := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, end)
		over <- err
	}()
	select {
	case err := <-failed:
		return err
	case err := <-over:
		return err
	}
}

// parcel is a packet on its way.
type parcel struct {
	due  time.Time
	data []byte
}

// forward carries packets between ports: each arrives delay after it was read, in the order of those of its own way.
// Reading that fails ends it, with an error.
func forward(delay time.Duration, ports []io.ReadWriter) <-chan error {
	failed := make(chan error, len(ports)*(len(ports)+1))
	ways := make([][]chan parcel, len(ports))
	for from := range ports {
		for to := range ports {
			way := make(chan parcel, queueLength)
			ways[from] = append(ways[from], way)
			if from != to {
				go func() { deliver(way, ports[to]) }()
			}
		}
	}
	for from, port := range ports {
		go func() { failed <- collect(delay, port, from, ways[from]) }()
	}
	return failed
}

// collect reads a port's packets and puts each on its way, or drops it where the way is full or there is none.
func collect(delay time.Duration, port io.Reader, from int, ways []chan parcel) error {
	defer func() {
		for _, way := range ways {
			close(way)
		}
	}()
	buffer := make([]byte, packetSize)
	for {
		n, err := port.Read(buffer)
		due := time.Now().Add(delay)
		if err != nil {
			return fmt.Errorf("read packet: %w", err)
		}
		to, ok := destination(buffer[:n])
		if !ok || to == from || to >= len(ways) {
			continue
		}
		select {
		case ways[to] <- parcel{due, append([]byte(nil), buffer[:n]...)}:
		default:
		}
	}
}

// deliver writes packets when they are due. What the other side does not take is lost, as in any network.
func deliver(way <-chan parcel, port io.Writer) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for p := range way {
		if wait := time.Until(p.due); wait > 0 {
			timer.Reset(wait)
			<-timer.C
		}
		if _, err := port.Write(p.data); errors.Is(err, os.ErrClosed) {
			return
		}
	}
}

// destination is the network that an IPv4 packet is for.
func destination(packet []byte) (int, bool) {
	const header = 20
	if len(packet) < header || packet[0]>>4 != 4 || packet[16] != 10 || packet[17] != 77 || packet[18] == 0 {
		return 0, false
	}
	return int(packet[18]) - 1, true
}
