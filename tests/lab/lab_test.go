//go:build root

package lab

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) {
	Serve()
	if err := Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func build(t *testing.T, delay time.Duration, dcs ...string) *Lab {
	t.Helper()
	l, err := New(delay, dcs...)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

// socket opens one in a data center.
func socket(t *testing.T, l *Lab, dc string) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	must(t, elsewhere(func() (err error) {
		if err = unix.Setns(int(l.nets[l.index(dc)].Fd()), unix.CLONE_NEWNET); err == nil {
			conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(l.Host(dc))})
		}
		return err
	}))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// arrives sends until one of what it sends arrives, or for the time given.
func arrives(t *testing.T, from, to *net.UDPConn, within time.Duration) bool {
	t.Helper()
	word := fmt.Appendf(nil, "%16x", rand.Uint64()) // what was sent before may arrive late
	buffer := make([]byte, len(word))
	for end := time.Now().Add(within); time.Now().Before(end); {
		_, err := from.WriteTo(word, to.LocalAddr())
		must(t, err)
		must(t, to.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		for err == nil {
			if _, _, err = to.ReadFrom(buffer); err == nil && bytes.Equal(buffer, word) {
				return true
			}
		}
	}
	return false
}

// TestDelay guards that data centers hear each other the delay later and not sooner, and that who runs the lab reaches
// each. How much later depends on what else the machine does; TestForward has it exactly.
func TestDelay(t *testing.T) {
	const delay = 20 * time.Millisecond
	l := build(t, delay, "east", "west", "north")
	for _, way := range [][2]string{{"east", "west"}, {"north", "east"}} {
		a, b := socket(t, l, way[0]), socket(t, l, way[1])
		if !arrives(t, a, b, patience) {
			t.Fatalf("%s does not hear %s", way[1], way[0])
		}
		var trips []time.Duration
		for range 30 {
			began := time.Now()
			for _, step := range []struct{ from, to *net.UDPConn }{{a, b}, {b, a}} {
				word := fmt.Appendf(nil, "%16x", rand.Uint64()) // what was sent before may still be on its way
				_, err := step.from.WriteTo(word, step.to.LocalAddr())
				must(t, err)
				must(t, step.to.SetReadDeadline(time.Now().Add(patience)))
				for got := make([]byte, len(word)); !bytes.Equal(got, word); {
					_, _, err = step.to.ReadFrom(got)
					must(t, err)
				}
			}
			trips = append(trips, time.Since(began))
		}
		slices.Sort(trips)
		t.Logf("%s and back: %s to %s, median %s", way, trips[0], trips[len(trips)-1], trips[len(trips)/2])
		if trips[0] < 2*delay {
			t.Errorf("round trips of %s: want at least %s", trips, 2*delay)
		}
	}
	near, err := net.ListenUDP("udp4", &net.UDPAddr{})
	must(t, err)
	defer near.Close()
	far := socket(t, l, "west")
	if !arrives(t, near, far, patience) {
		t.Error("west is not reached from here")
	}
}

// TestCuts guards what is cut and what is not: one way, one kind of traffic, never the way from here; and that healing
// ends it.
func TestCuts(t *testing.T) {
	l := build(t, 0, "east", "west")
	east, west := socket(t, l, "east"), socket(t, l, "west")
	hears := func(what string, from, to *net.UDPConn, want bool) {
		t.Helper()
		within := patience
		if !want {
			within = 200 * time.Millisecond
		}
		if got := arrives(t, from, to, within); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	hears("at first", east, west, true)
	must(t, l.Cut("east", "west", Everything))
	hears("the way that is cut", east, west, false)
	hears("the other way", west, east, true)
	must(t, l.Heal())
	hears("healed", east, west, true)
	must(t, l.Cut("east", "west", Connections("80", "81")))
	hears("datagrams where connections are cut", east, west, true)
	must(t, l.Cut("east", "west", Datagrams))
	hears("datagrams that are cut", east, west, false)
	must(t, l.Heal())
	must(t, l.Isolate("west"))
	hears("to an isolated one", east, west, false)
	hears("from an isolated one", west, east, false)
	near, err := net.ListenUDP("udp4", &net.UDPAddr{})
	must(t, err)
	defer near.Close()
	hears("from here to an isolated one", near, west, true)
}

// TestDisk guards that a full disk takes nothing more until it is freed.
func TestDisk(t *testing.T) {
	dir := t.TempDir()
	l := build(t, 0, "east")
	must(t, l.Disk(dir, 1<<20))
	write := func() error { return os.WriteFile(dir+"/one", []byte("some bytes"), 0o600) }
	must(t, write())
	must(t, Fill(dir))
	if err := os.WriteFile(dir+"/two", []byte("some bytes"), 0o600); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("writing to a full disk: %v", err)
	}
	must(t, Free(dir))
	must(t, write())
}

// TestFreezer guards that what is frozen does nothing, and goes on afterwards.
func TestFreezer(t *testing.T) {
	f, err := NewFreezer(t.TempDir())
	must(t, err)
	defer func() { must(t, f.Close()) }()
	cat := exec.Command("cat")
	in, err := cat.StdinPipe()
	must(t, err)
	out, err := cat.StdoutPipe()
	must(t, err)
	must(t, cat.Start())
	must(t, f.Freeze(cat.Process.Pid))
	_, err = in.Write([]byte("x"))
	must(t, err)
	answered := make(chan error, 1)
	go func() {
		_, err := out.Read(make([]byte, 1))
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Error("a frozen process answers", err)
	case <-time.After(200 * time.Millisecond):
	}
	must(t, f.Thaw())
	select {
	case err := <-answered:
		must(t, err)
	case <-time.After(patience):
		t.Error("it does not go on")
	}
	must(t, in.Close())
	must(t, cat.Wait())
}
