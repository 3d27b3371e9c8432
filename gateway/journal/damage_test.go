package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

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
