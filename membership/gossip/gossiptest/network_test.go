package gossiptest

import (
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// Guards: latency and cuts apply to packets and streams, in their direction.
func TestNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		n.Latency(func(Link) time.Duration { return 5 * time.Millisecond })
		a, b := n.Host(), n.Host()
		began := time.Now()
		if _, err := a.WriteTo([]byte("x"), b.Address().String()); err != nil {
			t.Fatal(err)
		}
		if p := <-b.PacketCh(); string(p.Buf) != "x" || time.Since(began) != 5*time.Millisecond {
			t.Errorf("packet %q after %v", p.Buf, time.Since(began))
		}

		began = time.Now()
		near, err := a.DialTimeout(b.Address().String(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		far := <-b.StreamCh()
		go func() { _, _ = near.Write([]byte("y")) }()
		buf := make([]byte, 1)
		if _, err := io.ReadFull(far, buf); err != nil || time.Since(began) != 15*time.Millisecond {
			t.Errorf("stream: %v after %v", err, time.Since(began))
		}

		n.Cut(func(l Link) bool { return l.From == a.Address() })
		if _, err := near.Write([]byte("lost")); err != nil {
			t.Error("a cut must be silent:", err)
		}
		_ = far.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := far.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read over a cut link: %v", err)
		}
		began = time.Now()
		if _, err := b.DialTimeout(a.Address().String(), time.Second); err == nil || time.Since(began) != time.Second {
			t.Errorf("dial without a way back: %v after %v", err, time.Since(began))
		}
		n.Cut(nil)
		if err := b.Shutdown(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.DialTimeout(b.Address().String(), time.Second); err == nil {
			t.Error("dialled a host that is gone")
		}
		_, _ = near.Close(), far.Close()
	})
}
