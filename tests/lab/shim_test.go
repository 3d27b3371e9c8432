package lab

import (
	"encoding/binary"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// port is a TUN device of memory.
type port struct {
	in  chan []byte
	out chan arrived
}

type arrived struct {
	at   time.Time
	data []byte
}

func newPort() *port { return &port{make(chan []byte), make(chan arrived, 4*queueLength)} }

func (p *port) Read(b []byte) (int, error) {
	packet, ok := <-p.in
	if !ok {
		return 0, io.EOF
	}
	return copy(b, packet), nil
}

func (p *port) Write(b []byte) (int, error) {
	p.out <- arrived{time.Now(), append([]byte(nil), b...)}
	return len(b), nil
}

func packet(to byte, n int) []byte {
	p := make([]byte, 24)
	p[0], p[16], p[17], p[18], p[19] = 0x45, 10, 77, to+1, 1
	binary.BigEndian.PutUint32(p[20:], uint32(n))
	return p
}

// TestForward guards that every packet arrives once, where it is for, exactly the delay after it was sent and in order;
// that one for nobody, or back to its own network, goes nowhere; and that a full way drops what is new.
func TestForward(t *testing.T) {
	const delay = 20 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		ports := []*port{newPort(), newPort(), newPort()}
		var all []io.ReadWriter
		for _, p := range ports {
			all = append(all, p)
		}
		failed := forward(delay, all)
		for _, nowhere := range [][]byte{{}, make([]byte, 40), packet(0, 1), packet(3, 1), packet(254, 1)} {
			ports[0].in <- nowhere
		}
		var sent []time.Time
		for n := range 100 {
			ports[0].in <- packet(1+byte(n%2), n)
			sent = append(sent, time.Now())
			synctest.Wait()
			if n%10 == 9 {
				<-time.After(3 * time.Millisecond)
			}
		}
		for n := range 100 {
			got := <-ports[1+n%2].out
			if number := binary.BigEndian.Uint32(got.data[20:]); int(number) != n || got.at.Sub(sent[n]) != delay {
				t.Fatalf("packet %d came as %d after %s", n, number, got.at.Sub(sent[n]))
			}
		}
		for n := range queueLength + 100 {
			ports[2].in <- packet(0, n)
		}
		<-time.After(2 * delay)
		// The way holds a full queue, and one more is with who delivers it.
		if got := len(ports[0].out); got < queueLength || got > queueLength+1 || len(ports[1].out)+len(ports[2].out) > 0 {
			t.Errorf("%d of %d packets arrived, %d elsewhere", got, queueLength+100, len(ports[1].out)+len(ports[2].out))
		}
		for _, p := range ports {
			close(p.in)
			if err := <-failed; err == nil {
				t.Error("a device that ends is no error")
			}
		}
	})
}
