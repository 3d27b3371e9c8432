package agreement

import (
	"bufio"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

// schemes makes the real schemes of n voters, one for each voter.
func schemes(t testing.TB, name string, n, u int) (out []signature.Scheme) {
	voters, secrets := make([]signature.Voter, n), make([][]byte, n)
	for i := range n {
		seed := sha256.Sum256(fmt.Appendf(nil, "agreement voter %d", i))
		key := ed25519.NewKeyFromSeed(seed[:])
		voters[i], secrets[i] = signature.Voter{Name: fmt.Sprintf("gw-%d", i), PublicKey: key.Public().(ed25519.PublicKey)}, key
		if name == signature.MultiName {
			secret, public, proof, err := signature.NewMultiKey()
			if err != nil {
				t.Fatal(err)
			}
			voters[i].PublicKey, voters[i].Proof, secrets[i] = public, proof, secret
		}
	}
	for i := range n {
		var s signature.Scheme
		var err error
		if name == signature.MultiName {
			s, err = signature.NewMulti(voters, n-u, secrets[i])
		} else {
			s, err = signature.NewList(voters, n-u, ed25519.PrivateKey(secrets[i]))
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// allToAll is the baseline: a PBFT-like agreement in which every voter sends
// each of its votes, signed with Ed25519, to every other one.
func allToAll(t testing.TB, n int, block []byte) (messages, size int) {
	seed := sha256.Sum256([]byte("baseline"))
	key := ed25519.NewKeyFromSeed(seed[:])
	signed := func(kind Kind, value []byte) int {
		d := digestOf(block)
		m := &Message{Kind: kind, Epoch: 1, Slot: 1, View: 1, Value: value, Quorum: &Quorum{View: 1, Digest: d}}
		payload, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := rpc.Seal(rpc.DomainAgreement, "demo", payload, key)
		if err != nil {
			t.Fatal(err)
		}
		return len(raw)
	}
	proposal, vote := signed(Proposal, block), signed(Certified, nil)
	messages = (n - 1) + (n-1)*(n-1) + n*(n-1)
	size = (n-1)*proposal + ((n-1)*(n-1)+n*(n-1))*vote
	return messages, size
}

// blockOf is about as large as a block with one short request.
func blockOf(proposer int, slot uint64) []byte {
	return append(fmt.Appendf(nil, "p%d slot %d ", proposer, slot), make([]byte, 100)...)
}

// TestBytesPerDecision guards the size of agreement: n = 4 within 15 messages and
// 2.6 kB, n = 31 within 150 messages and a thirteenth of the baseline's bytes.
func TestBytesPerDecision(t *testing.T) {
	for _, c := range []struct {
		n, u, messages, bytes int
		scheme                string
	}{
		{4, 1, 15, 2600, signature.ListName}, {4, 1, 15, 2600, signature.MultiName}, {31, 10, 150, 0, signature.MultiName},
	} {
		w := &network{t: t, now: start, sent: map[Kind]int{}, tell: func(string) {}, crash: func(*node, point) bool { return false }}
		for i, s := range schemes(t, c.scheme, c.n, c.u) {
			cfg := config(c.n, c.u, i, 0)
			cfg.Scheme = named{s}
			w.add(cfg)
		}
		e, err := w.nodes[0].r.Propose(blockOf(0, 1), w.now)
		if err != nil {
			t.Fatal(err)
		}
		w.want = 1
		w.do(w.nodes[0], e)
		w.heal(time.Minute)
		messages := 0
		for _, k := range w.sent {
			messages += k
		}
		all, base := allToAll(t, c.n, blockOf(0, 1))
		t.Logf("%s, n=%d: %d messages, %d bytes; all-to-all with Ed25519: %d messages, %d bytes (%.1f times)",
			c.scheme, c.n, messages, w.bytes, all, base, float64(base)/float64(w.bytes))
		if messages > c.messages || c.bytes > 0 && w.bytes > c.bytes || c.n > 4 && w.bytes*13 > base {
			t.Errorf("n=%d: %d messages, %d bytes: more than is allowed", c.n, messages, w.bytes)
		}
	}
}

// named takes the name that the network's checks use for the scheme's own.
type named struct{ signature.Scheme }

func (n named) VerifyQuorum(_ string, message, combined []byte) error {
	return n.Scheme.VerifyQuorum(n.Name(), message, combined)
}

// member is a voter of the benchmark: its replica, connections, and a file that
// is synced before anything is sent.
type member struct {
	mu   sync.Mutex
	r    *Replica
	disk *os.File
	out  []*bufio.Writer
	done chan uint64
	b    *testing.B
}

func (m *member) do(e Effects) {
	if e.Persist != nil {
		raw, err := e.Persist.Encode()
		if err == nil {
			_, err = m.disk.WriteAt(raw, 0)
		}
		if err == nil {
			err = m.disk.Sync()
		}
		if err != nil {
			m.b.Error(err)
		}
	}
	for _, o := range e.Send {
		raw, err := o.Message.Encode()
		if err != nil {
			m.b.Error(err)
		}
		for to, w := range m.out {
			if w != nil && (o.To == Everyone || o.To == to) {
				_ = binary.Write(w, binary.BigEndian, uint32(len(raw)))
				_, _ = w.Write(raw)
				_ = w.Flush()
			}
		}
	}
	if d := e.Decide; d != nil {
		m.r.Advance(d.Slot+1, 0, time.Now())
		m.done <- d.Slot
	}
}

func (m *member) receive(from int, c net.Conn) {
	for in := bufio.NewReader(c); ; {
		var size uint32
		if binary.Read(in, binary.BigEndian, &size) != nil {
			return
		}
		raw := make([]byte, size)
		if _, err := io.ReadFull(in, raw); err != nil {
			return
		}
		msg, err := Decode(raw)
		if err != nil {
			m.b.Error(err)
			return
		}
		m.mu.Lock()
		e, _ := m.r.Step(from, msg, time.Now()) // late votes are refused
		m.do(e)
		m.mu.Unlock()
	}
}

// connect joins two members over loopback TCP.
func connect(b *testing.B, members []*member, i, j int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { near.Close(); far.Close() })
	members[i].out[j], members[j].out[i] = bufio.NewWriter(near), bufio.NewWriter(far)
	go members[i].receive(j, near)
	go members[j].receive(i, far)
}

// BenchmarkDecision is one decision of four voters over loopback TCP, each of
// which syncs its file before it sends.
func BenchmarkDecision(b *testing.B) {
	for _, scheme := range []string{signature.ListName, signature.MultiName} {
		b.Run(scheme, func(b *testing.B) {
			const n, u = 4, 1
			var members []*member
			for i, s := range schemes(b, scheme, n, u) {
				cfg := config(n, u, i, 0)
				cfg.Scheme, cfg.Timeout = s, time.Minute
				f, err := os.Create(filepath.Join(b.TempDir(), "state"))
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = f.Close() })
				members = append(members, &member{r: newReplica(b, cfg, nil), disk: f, out: make([]*bufio.Writer, n), done: make(chan uint64, 16), b: b})
			}
			for i := range n {
				for j := range i {
					connect(b, members, i, j)
				}
			}
			var took []time.Duration
			for slot := uint64(1); b.Loop(); slot++ {
				began := time.Now()
				lead := members[0]
				lead.mu.Lock()
				e, err := lead.r.Propose(blockOf(0, slot), began)
				if err != nil {
					b.Fatal(err)
				}
				lead.do(e)
				lead.mu.Unlock()
				<-lead.done
				took = append(took, time.Since(began))
				for _, m := range members[1:] {
					<-m.done
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
