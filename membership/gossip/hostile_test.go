package gossip

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/signalbox-io/signalbox/membership/gossip/gossiptest"
)

const testLabel = "signalbox/test/east"

// seal encrypts as memberlist does, with any version byte.
func seal(t *testing.T, version byte, plain, additional []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	return gcm.Seal(append([]byte{version}, nonce...), nonce, plain, additional)
}

func labelled(label string, b []byte) []byte {
	return append(append([]byte{labelMarker, byte(len(label))}, label...), b...)
}

// stream frames a sealed message for a stream.
func streamFrame(t *testing.T, version byte, plain []byte) []byte {
	t.Helper()
	head := binary.BigEndian.AppendUint32([]byte{encryptMarker}, uint32(sealOverhead+len(plain)))
	return labelled(testLabel, append(head, seal(t, version, plain, append(head, testLabel...))...))
}

const (
	userMessage = 8   // memberlist's message types
	pingMessage = 0   //
	badPadding  = 255 // longer than the message
)

// hostile is a victim and an attacker on one network.
type hostile struct {
	t      *testing.T
	victim *node
	host   *gossiptest.Transport
}

func newHostile(t *testing.T) hostile {
	network := gossiptest.New()
	return hostile{t, cluster(t, network, 1, 1, nil)[0], network.Host()}
}

func (h hostile) packet(b []byte) {
	h.t.Helper()
	if _, err := h.host.WriteTo(b, h.victim.Address()); err != nil {
		h.t.Fatal(err)
	}
	synctest.Wait()
}

// stream sends bytes and keeps the connection open until the victim closes it.
func (h hostile) stream(b []byte) {
	h.t.Helper()
	conn, err := h.host.DialTimeout(h.victim.Address(), time.Second)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, _ = conn.Write(b)
	for buf := make([]byte, 512); err == nil; {
		_, err = conn.Read(buf)
	}
	synctest.Wait()
}

// Guards: oversized, truncated, foreign, plain and garbage packets and streams
// are counted and dropped, whether their sender holds the key or not, and the
// member goes on. Without the guard the marked ones end the process.
func TestHostileInput(t *testing.T) {
	user := func(b ...byte) []byte { return append([]byte{userMessage}, b...) }
	sealed := func(t *testing.T, plain []byte) []byte {
		return labelled(testLabel, seal(t, encryptionVersion, plain, []byte(testLabel)))
	}
	for _, c := range []struct {
		name string
		send func(t *testing.T, h hostile)
		want reason
	}{
		{"garbage packet", func(_ *testing.T, h hostile) { h.packet(bytes.Repeat([]byte{0xa5}, 100)) }, dropLabel},
		{"one byte", func(_ *testing.T, h hostile) { h.packet([]byte{labelMarker}) }, dropFrame},
		{"truncated label", func(_ *testing.T, h hostile) { h.packet([]byte{labelMarker, 200, 'x'}) }, dropFrame},
		{"oversized packet", func(t *testing.T, h hostile) { h.packet(sealed(t, make([]byte, MaxPacket))) }, dropOversized},
		{"other label", func(t *testing.T, h hostile) {
			h.packet(labelled("signalbox/test/west", seal(t, encryptionVersion, user(1), []byte("signalbox/test/west"))))
		}, dropLabel},
		{"plaintext packet", func(_ *testing.T, h hostile) {
			h.packet(labelled(testLabel, append([]byte{userMessage}, make([]byte, 50)...)))
		}, dropFrame},
		{"garbage under the label", func(_ *testing.T, h hostile) {
			h.packet(labelled(testLabel, append([]byte{encryptionVersion}, make([]byte, 100)...)))
		}, dropDecrypt},
		{"old padding (ends the process)", func(t *testing.T, h hostile) {
			h.packet(labelled(testLabel, seal(t, 0, bytes.Repeat([]byte{badPadding}, 16), []byte(testLabel))))
		}, dropFrame},
		{"empty sealed stream (ends the process)", func(t *testing.T, h hostile) { h.stream(streamFrame(t, encryptionVersion, nil)) }, dropFrame},
		{"old padding on a stream (ends the process)", func(t *testing.T, h hostile) {
			h.stream(streamFrame(t, 0, bytes.Repeat([]byte{badPadding}, 16)))
		}, dropFrame},
		{"stream too long", func(_ *testing.T, h hostile) {
			h.stream(labelled(testLabel, []byte{encryptMarker, 0x7f, 0xff, 0xff, 0xff, encryptionVersion}))
		}, dropOversized},
		{"plaintext stream", func(_ *testing.T, h hostile) { h.stream(labelled(testLabel, make([]byte, 64))) }, dropFrame},
		{"foreign stream", func(_ *testing.T, h hostile) { h.stream(labelled("signalbox/test/west", make([]byte, 64))) }, dropLabel},
		{"stream that ends early", func(_ *testing.T, h hostile) {
			conn, err := h.host.DialTimeout(h.victim.Address(), time.Second)
			if err != nil {
				h.t.Fatal(err)
			}
			_, _ = conn.Write([]byte{labelMarker, byte(len(testLabel)), 's'})
			_ = conn.Close()
			synctest.Wait()
		}, dropFrame},
		{"key holder: unknown version", func(t *testing.T, h hostile) { h.packet(sealed(t, user(9, 9, 9))) }, dropMalformed},
		{"key holder: empty message", func(t *testing.T, h hostile) { h.packet(sealed(t, user())) }, dropMalformed},
		{"key holder: statement too long", func(t *testing.T, h hostile) {
			h.packet(sealed(t, user(encodeRaw(kindStatement, pathDirect, make([]byte, MaxStatement+1))...)))
		}, dropOversized},
		{"key holder: bad signature", func(t *testing.T, h hostile) {
			h.packet(sealed(t, user(encodeRaw(kindStatement, pathDirect, make([]byte, 100))...)))
		}, dropInvalid},
		{"key holder: document nobody signed", func(t *testing.T, h hostile) {
			h.packet(sealed(t, user(encodeRaw(kindDocument, pathDirect, make([]byte, 100))...)))
		}, dropInvalid},
		{"key holder: request by a stranger", func(t *testing.T, h hostile) {
			h.packet(sealed(t, user(encodeHashes(kindRequest, "stranger", []Hash{{1}})...)))
		}, dropUnknown},
		{"key holder: answer to a name", func(t *testing.T, h hostile) {
			// A ping that asks for its answer at an address that is none.
			ping := append([]byte{pingMessage, 0x83, 0xa5}, "SeqNo\x01"...)
			ping = append(append(ping, 0xaa), "SourceAddr\xa3abc"...)
			ping = append(append(ping, 0xaa), "SourcePort\x05"...)
			h.packet(sealed(t, ping))
		}, dropAddress},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newHostile(t)
				c.send(t, h)
				if h.victim.dropped(c.want) == 0 {
					t.Errorf("not counted as %s", c.want)
				}
				h.packet(sealed(t, user(encodeRaw(kindStatement, pathDirect, signed("after", ""))...)))
				if h.victim.got("after") != 1 {
					t.Error("the member does not work any more")
				}
				closeAll(t, []*node{h.victim})
			})
		})
	}
}

// Guards: others hold at most MaxInboundStreams streams open, for as long as
// the timeout at most.
func TestStreamsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHostile(t)
		for range MaxInboundStreams + 5 {
			conn, err := h.host.DialTimeout(h.victim.Address(), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			synctest.Wait()
		}
		if got := h.victim.dropped(dropStreams); got != 5 {
			t.Errorf("%v streams were refused", got)
		}
		time.Sleep(5 * time.Second)
		h.stream(streamFrame(t, encryptionVersion, nil))
		if got := h.victim.dropped(dropStreams); got != 5 {
			t.Error("the streams were not given back after the timeout")
		}
		closeAll(t, []*node{h.victim})
	})
}

// Guards: Close ends the streams that others hold open, at once.
func TestCloseEndsStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHostile(t)
		conn, err := h.host.DialTimeout(h.victim.Address(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		closeAll(t, []*node{h.victim})
		if _, err := conn.Read(make([]byte, 1)); err == nil || time.Since(began) > 0 {
			t.Errorf("the stream ended after %v: %v", time.Since(began), err)
		}
	})
}

// Guards: a peer that accepts a stream and never reads cannot hold a worker:
// memberlist itself sets no deadline on user messages.
func TestSilentPeerHoldsNoWorker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := gossiptest.New()
		silent := network.Host()
		g := newGuard(network.Host(), testLabel, 3*time.Second, func(reason) {})
		began := time.Now()
		conn, err := g.DialTimeout(silent.Address().String(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { _, err := conn.Write([]byte("x")); done <- err }()
		select {
		case err = <-done:
			if took := time.Since(began); err == nil || took != 3*time.Second {
				t.Errorf("the write ended after %v: %v", took, err)
			}
		case <-time.After(time.Hour):
			t.Error("the write does not end")
		}
		if err := g.Shutdown(); err != nil {
			t.Error(err)
		}
	})
}

// Guards: a member that memberlist would take in with harmful or undecodable
// metadata, address or name is refused, and there are at most MaxMembers.
func TestMembersAreJudged(t *testing.T) {
	p := newPool(options("self", RoleAgent).withDefaults())
	defer p.fetch.close()
	good := func() *memberlist.Node {
		return &memberlist.Node{Name: "good", Addr: net.IPv4(10, 0, 0, 1).To4(), Port: 1, Meta: p.opts.Meta.encode()}
	}
	for _, c := range []struct {
		name  string
		spoil func(*memberlist.Node)
		want  reason
	}{
		{"no metadata", func(n *memberlist.Node) { n.Meta = nil }, dropMeta},
		{"trailing bytes", func(n *memberlist.Node) { n.Meta = append(n.Meta, 0) }, dropMeta},
		{"role", func(n *memberlist.Node) { n.Meta[1] = 9 }, dropMeta},
		{"terminal escape", func(n *memberlist.Node) { n.Name = "\x1b[2J" }, dropMeta},
		{"long name", func(n *memberlist.Node) { n.Name = strings.Repeat("x", MaxName+1) }, dropMeta},
		{"no address", func(n *memberlist.Node) { n.Addr = nil }, dropAddress},
		{"no port", func(n *memberlist.Node) { n.Port = 0 }, dropAddress},
	} {
		n := good()
		c.spoil(n)
		before := (&node{Pool: p}).dropped(c.want)
		if err := (delegate{p}).NotifyAlive(n); err == nil || (&node{Pool: p}).dropped(c.want) != before+1 {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for i := range MaxMembers {
		n := good()
		n.Name = fmt.Sprint("m", i)
		if err := (delegate{p}).NotifyAlive(n); err != nil {
			t.Fatal(err)
		}
		delegate{p}.NotifyJoin(n)
	}
	if err := (delegate{p}).NotifyAlive(good()); err == nil {
		t.Error("more than MaxMembers")
	}
}

// FuzzNotifyMsg guards the decoder of single messages, behind the delegate.
func FuzzNotifyMsg(f *testing.F) {
	f.Add(encodeRaw(kindStatement, pathDirect, signed("k", "text")))
	f.Add(encodeRaw(kindDocument, pathDirect, signed("k", "text")))
	f.Add(encodeHashes(kindAnnounce, "n1", []Hash{{1}, {2}}))
	f.Add(encodeHashes(kindRequest, "n1", []Hash{{1}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err == nil {
			again := encodeRaw(m.kind, m.path, m.raw)
			if m.hashes != nil {
				again = encodeHashes(m.kind, m.sender, m.hashes)
				again[2] = byte(m.path)
			}
			if !bytes.Equal(again, b) {
				t.Fatalf("decodes to what encodes as %x", again)
			}
		}
		fuzzed(t, func(d delegate) { d.NotifyMsg(b) })
	})
}

// FuzzMergeRemoteState guards the decoder of push-pull, behind the delegate.
func FuzzMergeRemoteState(f *testing.F) {
	f.Add(state{"n1", [][]byte{signed("k", "text"), {1}}, []Hash{{1}, {2}}}.encode())
	f.Add(state{"n1", nil, nil}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeState(b); err == nil && !bytes.Equal(s.encode(), b) {
			t.Fatalf("decodes to what encodes as %x", s.encode())
		}
		fuzzed(t, func(d delegate) { d.MergeRemoteState(b, false) })
	})
}

// FuzzNodeMeta guards the decoder of members' metadata.
func FuzzNodeMeta(f *testing.F) {
	f.Add(Meta{RoleGateway, "east", "10.0.0.1:7000"}.encode())
	f.Add(Meta{RoleAgent, "w", ""}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeMeta(b); err == nil && !bytes.Equal(m.encode(), b) {
			t.Fatalf("decodes to what encodes as %x", m.encode())
		}
	})
}

// FuzzGuard guards the frames that are judged before any key is tried.
func FuzzGuard(f *testing.F) {
	g := &guard{label: testLabel}
	f.Add(labelled(testLabel, append([]byte{encryptMarker, 0, 0, 0, 50, encryptionVersion}, make([]byte, 50)...)))
	f.Add(labelled(testLabel, append([]byte{encryptionVersion}, make([]byte, 50)...)))
	f.Fuzz(func(_ *testing.T, b []byte) {
		g.judgePacket(b)
		if prefix := 2 + len(testLabel); len(b) >= prefix+6 {
			judgeStream(b, prefix, testLabel)
			judgeStream(b[prefix:], 0, testLabel)
		}
	})
}

// fuzzed runs the delegate of a Pool without network, then judges what it kept.
func fuzzed(t *testing.T, f func(delegate)) {
	opts := options("self", RoleAgent).withDefaults()
	opts.ValidateStatement = verify
	opts.OnStatement = func([]byte) {}
	opts.ValidateDocument = func(raw []byte) error { _, err := verify(raw); return err }
	opts.OnDocument = func(Hash, []byte) {}
	p := newPool(opts)
	defer p.fetch.close()
	f(delegate{p})
	for {
		select {
		case r := <-p.inbox:
			p.judgeStatement(r)
		case raw := <-p.bodies:
			p.judgeDocument(raw)
		default:
			return
		}
	}
}
