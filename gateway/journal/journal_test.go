package journal

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

const orders = signalbox.Service("orders")

var start = time.Unix(1_700_000_000, 0)

func keyOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func scheme(t testing.TB, voter string) *signature.List {
	t.Helper()
	key := keyOf(voter)
	l, err := signature.NewList([]signature.Voter{{Name: voter, PublicKey: key.Public().(ed25519.PublicKey)}}, 1, key)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func trustOf(t testing.TB) rpc.Trust { return rpc.Trust{Cluster: "demo", Quorum: scheme(t, "east-1")} }

// instance returns an instance with an enrollment that parses.
func instance(t testing.TB, name string) (signalbox.Instance, []byte) {
	t.Helper()
	key := keyOf(name)
	public := key.Public().(ed25519.PublicKey)
	in := signalbox.Instance{Service: orders, DataCenter: "east", Name: name, Identity: rpc.IdentityOf(public), PublicKey: public}
	agent, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := rpc.SealEnrollment("demo", in, start, key, tls.Certificate{PrivateKey: agent, Certificate: [][]byte{{1}}})
	if err != nil {
		t.Fatal(err)
	}
	return in, proof
}

func anyEnrollment(t testing.TB) func([]byte) (signalbox.Instance, error) {
	return func(raw []byte) (signalbox.Instance, error) {
		for _, n := range []string{"e1", "e2", "e3"} {
			if in, _ := instance(t, n); bytes.Contains(raw, in.PublicKey) {
				return in, nil
			}
		}
		return signalbox.Instance{}, signalbox.ErrUntrusted
	}
}

func openIn(t testing.TB, dir string) *Journal {
	t.Helper()
	j, err := Open(dir, trustOf(t), anyEnrollment(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func voterOf(t testing.TB, j *Journal) *Voter {
	return NewVoter(j, scheme(t, "east-1"), 1, "east-1", keyOf("east-1"), func() time.Time { return start })
}

func enroll(t testing.TB, name string) signalbox.Request {
	in, proof := instance(t, name)
	return signalbox.Request{Admit: &signalbox.Admission{Instance: in, Enrollment: proof}}
}

func adoption(id string) signalbox.Request {
	e1 := keyOf("e1").Public().(ed25519.PublicKey)
	return signalbox.Request{Handover: &signalbox.Handover{
		ID: id, Service: orders, Term: 1, To: "east", Incoming: []signalbox.Identity{rpc.IdentityOf(e1)}, Allowed: signalbox.AckOnly,
	}}
}

// written is a journal with four blocks, closed; the blocks come along.
func written(t testing.TB) (dir string, blocks [][]byte) {
	t.Helper()
	dir = t.TempDir()
	j := openIn(t, dir)
	v := voterOf(t, j)
	for _, r := range []signalbox.Request{enroll(t, "e1"), enroll(t, "e2"), adoption("adopt"), enroll(t, "e3")} {
		if _, err := v.Propose(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	blocks, err := j.Blocks(1, 10)
	if err != nil || len(blocks) != 4 {
		t.Fatalf("%d blocks, %v", len(blocks), err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, blocks
}

// TestProposeIsDurable guards invariant 9: when Propose returns, a copy of the
// file as it is on the disk holds the block.
func TestProposeIsDurable(t *testing.T) {
	dir := t.TempDir()
	j := openIn(t, dir)
	v := voterOf(t, j)
	if j.db.NoSync || j.db.NoGrowSync || j.db.NoFreelistSync {
		t.Fatal("the file is not synced")
	}
	for i, n := range []string{"e1", "e2", "e3"} {
		if _, err := v.Propose(context.Background(), enroll(t, n)); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(dir, FileName))
		if err != nil {
			t.Fatal(err)
		}
		other := t.TempDir()
		if err := os.WriteFile(filepath.Join(other, FileName), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := openIn(t, other).Index(); got != uint64(i+1) {
			t.Fatalf("the file has block %d when block %d was acknowledged", got, i+1)
		}
	}
}

// TestFailedWrite guards invariant 9: a block that could not be written is not
// in the ledger, not returned, and nothing is decided in its place until the
// file was opened again.
func TestFailedWrite(t *testing.T) {
	dir := t.TempDir()
	var file *os.File
	j, err := open(dir, trustOf(t), anyEnrollment(t), func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		file = f
		return f, err
	})
	if err != nil {
		t.Fatal(err)
	}
	v := voterOf(t, j)
	if _, err := v.Propose(context.Background(), enroll(t, "e1")); err != nil {
		t.Fatal(err)
	}
	changed := j.Changed()
	if err := file.Close(); err != nil { // from now on every write fails
		t.Fatal(err)
	}
	b, err := v.Propose(context.Background(), enroll(t, "e2"))
	if err == nil || b != nil || !errors.Is(err, signalbox.ErrUnavailable) {
		t.Fatalf("a block that was not written: %v, %v", b, err)
	}
	j.View(func(l *handover.Ledger) {
		if l.Index() != 1 || len(l.Instances(orders)) != 1 {
			t.Errorf("the ledger is ahead of the disk: index %d", l.Index())
		}
	})
	select {
	case <-changed:
		t.Error("the log did not grow, and followers were told so")
	default:
	}
	select {
	case <-j.Broken():
	default:
		t.Error("nobody is told that the journal failed")
	}
	if _, err := v.Propose(context.Background(), enroll(t, "e3")); !errors.Is(err, signalbox.ErrUnavailable) {
		t.Fatalf("another block in its place: %v", err)
	}
	if _, err := v.Answer(orders, rpc.IdentityOf(keyOf("e1").Public().(ed25519.PublicKey)), make([]byte, rpc.NonceSize)); !errors.Is(err, signalbox.ErrUnavailable) {
		t.Fatalf("an answer from a journal that failed: %v", err)
	}
	_ = j.Close()
	again := openIn(t, dir)
	if again.Index() != 1 || again.Failed() != nil {
		t.Fatalf("after the restart: index %d, %v", again.Index(), again.Failed())
	}
}

// TestAppend guards the order of blocks: the next one is taken, one that is
// there again is no error, gaps, forks and strangers are.
func TestAppend(t *testing.T) {
	_, blocks := written(t)
	j := openIn(t, t.TempDir())
	if err := j.Append(blocks[1]); !errors.Is(err, signalbox.ErrConflict) {
		t.Fatalf("a gap: %v", err)
	}
	for range 2 {
		for _, b := range blocks[:2] {
			if err := j.Append(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if j.Index() != 2 {
		t.Fatalf("index %d", j.Index())
	}
	forked := openIn(t, t.TempDir())
	if _, err := voterOf(t, forked).Propose(context.Background(), enroll(t, "e3")); err != nil {
		t.Fatal(err)
	}
	fork, err := forked.Blocks(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append(fork[0]); !errors.Is(err, signalbox.ErrUntrusted) || !strings.Contains(err.Error(), "lost part of its log") {
		t.Fatalf("another block 1: %v", err)
	}
	if err := forked.Append(blocks[1]); !errors.Is(err, signalbox.ErrConflict) || forked.Index() != 1 {
		t.Fatalf("a block of another history: %v", err)
	}
	bad := bytes.Clone(blocks[2])
	bad[len(bad)-1]++
	if err := j.Append(bad); !errors.Is(err, signalbox.ErrUntrusted) {
		t.Fatalf("a changed block: %v", err)
	}
	if err := j.Append(nil); !errors.Is(err, signalbox.ErrInvalid) || j.Index() != 2 {
		t.Fatalf("nothing: %v", err)
	}
}

// TestAppendConcurrently guards that many followers' streams bring the same
// blocks at once and each is taken once.
func TestAppendConcurrently(t *testing.T) {
	_, blocks := written(t)
	j := openIn(t, t.TempDir())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := 0; i < len(blocks); {
				changed := j.Changed()
				switch err := j.Append(blocks[i]); {
				case err == nil:
					i++
				case errors.Is(err, signalbox.ErrConflict):
					<-changed
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	got, err := j.Blocks(1, 100)
	if err != nil || len(got) != len(blocks) || j.Index() != 4 {
		t.Fatalf("%d blocks, index %d, %v", len(got), j.Index(), err)
	}
	for i := range got {
		if !bytes.Equal(got[i], blocks[i]) {
			t.Fatalf("block %d is not verbatim", i+1)
		}
	}
}

// TestBlocks guards paging and lookups.
func TestBlocks(t *testing.T) {
	dir, blocks := written(t)
	j := openIn(t, dir)
	page, err := j.Blocks(2, 2)
	if err != nil || len(page) != 2 || !bytes.Equal(page[0], blocks[1]) {
		t.Fatalf("%d blocks, %v", len(page), err)
	}
	if b, err := j.Handover("adopt"); err != nil || b.Index != 3 {
		t.Fatalf("%+v, %v", b, err)
	}
	for _, err := range []error{func() error { _, err := j.Handover("other"); return err }(), func() error { _, err := j.Block(9); return err }(), func() error { _, err := j.Block(0); return err }()} {
		if !errors.Is(err, signalbox.ErrUnknown) {
			t.Fatal(err)
		}
	}
}

// TestDamagedFiles guards that a file that does not verify is not opened, and
// that no damage ends the process.
func TestDamagedFiles(t *testing.T) {
	dir, _ := written(t)
	good, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	cut := func(n int) []byte { return bytes.Clone(good[:n]) }
	over := func(from, to int) []byte {
		out := bytes.Clone(good)
		for i := from; i < min(to, len(out)); i++ {
			out[i] ^= 0xa5
		}
		return out
	}
	for name, raw := range map[string][]byte{
		"no journal": []byte(strings.Repeat("hello", 10000)), "a few bytes": cut(100), "one page": cut(page), "two pages": cut(2 * page),
		"three pages": cut(3 * page), "half": cut(len(good) / 2), "both metas": over(0, 2*page), "all but the metas": over(2*page, len(good)),
	} {
		t.Run(name, func(t *testing.T) {
			bad := t.TempDir()
			if err := os.WriteFile(filepath.Join(bad, FileName), raw, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Verify(filepath.Join(bad, FileName), trustOf(t)); err == nil {
				t.Error("verified")
			}
			if j, err := Open(bad, trustOf(t), nil); err == nil {
				t.Errorf("opened with index %d", j.Index())
			} else if !errors.Is(err, signalbox.ErrInvalid) {
				t.Errorf("not told as damage: %v", err)
			}
		})
	}
}

// TestDamagedLog guards the chain: a block that is missing, changed, exchanged
// or of other voters is found when the file is opened.
func TestDamagedLog(t *testing.T) {
	index := func(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }
	for name, damage := range map[string]func(b *bolt.Bucket) error{
		"missing":  func(b *bolt.Bucket) error { return b.Delete(index(2)) },
		"no first": func(b *bolt.Bucket) error { return b.Delete(index(1)) },
		"exchanged": func(b *bolt.Bucket) error {
			two, three := bytes.Clone(b.Get(index(2))), bytes.Clone(b.Get(index(3)))
			return errors.Join(b.Put(index(2), three), b.Put(index(3), two))
		},
		"changed": func(b *bolt.Bucket) error {
			v := bytes.Clone(b.Get(index(4)))
			v[len(v)/2]++
			return b.Put(index(4), v)
		},
		"elsewhere": func(b *bolt.Bucket) error {
			v := bytes.Clone(b.Get(index(4)))
			return errors.Join(b.Delete(index(4)), b.Put(index(7), v))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := written(t)
			db, err := bolt.Open(filepath.Join(dir, FileName), 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(func(tx *bolt.Tx) error { return damage(tx.Bucket(bucketBlocks)) }), db.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, trustOf(t), nil); err == nil || !strings.Contains(err.Error(), "block") {
				t.Fatalf("opened: %v", err)
			}
		})
	}
}

// TestForeignJournal guards that a journal of another cluster, or signed by
// other voters, is not opened.
func TestForeignJournal(t *testing.T) {
	dir, _ := written(t)
	other := trustOf(t)
	other.Cluster = "prod"
	if _, err := Open(dir, other, nil); !errors.Is(err, signalbox.ErrUntrusted) || !strings.Contains(err.Error(), `cluster "demo"`) {
		t.Fatal(err)
	}
	if _, err := Open(dir, rpc.Trust{Cluster: "demo", Quorum: scheme(t, "west-1")}, nil); !errors.Is(err, signalbox.ErrUntrusted) {
		t.Fatal(err)
	}
}

// TestOneProcess guards that a second process is told who has the file.
func TestOneProcess(t *testing.T) {
	dir, _ := written(t)
	openIn(t, dir)
	for name, f := range map[string]func() error{
		"open":    func() error { _, err := Open(dir, trustOf(t), nil); return err },
		"verify":  func() error { _, err := Verify(filepath.Join(dir, FileName), trustOf(t)); return err },
		"restore": func() error { _, err := Restore(backupOf(t), dir, trustOf(t)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := f(); !errors.Is(err, signalbox.ErrUnavailable) || !strings.Contains(err.Error(), "another process") {
				t.Fatal(err)
			}
		})
	}
}

func backupOf(t testing.TB) string {
	t.Helper()
	dir, _ := written(t)
	j := openIn(t, dir)
	path := filepath.Join(t.TempDir(), "backup")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Backup(f), f.Close(), j.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestMaxRecords guards the bound on records, and that keeping one more costs
// no walk over all of them.
func TestMaxRecords(t *testing.T) {
	dir := t.TempDir()
	j := openIn(t, dir)
	err := j.db.Update(func(tx *bolt.Tx) error {
		for i := range MaxRecords {
			id := fmt.Sprintf("h%d", i)
			if err := tx.Bucket(bucketRecords).Put(recordKey(start.Add(time.Duration(i)), id), []byte("{}")); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, j.Close()); err != nil {
		t.Fatal(err)
	}
	j = openIn(t, dir) // a file without the index by id, as an earlier version wrote it
	if j.records != MaxRecords {
		t.Fatalf("%d records", j.records)
	}
	for i := range 3 {
		if err := j.PutRecord(fmt.Sprintf("new%d", i), start.Add(time.Hour+time.Duration(i)), []byte("new")); err != nil {
			t.Fatal(err)
		}
	}
	if j.records != MaxRecords {
		t.Fatalf("%d records", j.records)
	}
	for id, want := range map[string]bool{"h0": false, "h2": false, "h3": true, "new2": true} {
		if _, err := j.Record(id); (err == nil) != want {
			t.Errorf("record %s: %v", id, err)
		}
	}
}

// TestRecords guards the order, the end of a page, and one record for each
// handover whenever it was started.
func TestRecords(t *testing.T) {
	j := openIn(t, t.TempDir())
	for i, id := range []string{"a", "b", "c", "a"} {
		if err := j.PutRecord(id, start.Add(time.Duration(i)*time.Second), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	list := func(most int) {
		got = nil
		if err := j.Records(func(id string, record []byte) bool {
			got = append(got, fmt.Sprintf("%s%d", id, record[0]))
			return len(got) < most
		}); err != nil {
			t.Fatal(err)
		}
	}
	if list(9); fmt.Sprint(got) != "[a3 c2 b1]" {
		t.Fatal(got)
	}
	if list(2); fmt.Sprint(got) != "[a3 c2]" {
		t.Fatal(got)
	}
	if r, err := j.Record("a"); err != nil || r[0] != 3 {
		t.Fatal(r, err)
	}
	if _, err := j.Record("z"); !errors.Is(err, signalbox.ErrUnknown) {
		t.Fatal(err)
	}
	if err := j.PutRecord("", start, nil); !errors.Is(err, signalbox.ErrInvalid) {
		t.Fatal(err)
	}
}

// TestNotes guards that notes survive, by kind, and go when they are dropped.
func TestNotes(t *testing.T) {
	dir := t.TempDir()
	j := openIn(t, dir)
	for _, k := range []string{"orders/1", "orders/2", "users/1"} {
		if err := errors.Join(j.PutNote(KindStatement, k, []byte(k)), j.PutNote(KindEndpoints, k, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.DropNotes(KindStatement, func(key string) bool { return key == "orders/1" }); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	j = openIn(t, dir)
	notes, err := j.Notes(KindStatement)
	if err != nil || len(notes) != 2 || string(notes["orders/2"]) != "orders/2" || string(notes["users/1"]) != "users/1" {
		t.Fatalf("%v, %v", notes, err)
	}
	if notes, err = j.Notes(KindEndpoints); err != nil || len(notes) != 3 {
		t.Fatalf("%v, %v", notes, err)
	}
}
