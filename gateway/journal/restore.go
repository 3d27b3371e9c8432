package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

// Backup writes a consistent copy of the file while the gateway goes on. It
// holds no private key.
func (j *Journal) Backup(w io.Writer) error {
	return j.db.View(func(tx *bolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
}

// A Summary is what a verified journal holds.
type Summary struct {
	Cluster string
	// Index and Digest name the newest block; 0 for an empty log.
	Index    uint64
	Digest   signalbox.Digest
	Services []ServiceSummary
	// First is the oldest block in the log. Where that is not block 1, Snapshot is
	// the block up to which a snapshot stands for the log, and DecidedBy the block
	// in which a quorum of voters agreed on it.
	First, Snapshot, DecidedBy uint64
	// Records is how many cutover records there are.
	Records int
	// Restored: it came from a backup and has not caught up since.
	Restored bool
}

// ServiceSummary is one service by the log.
type ServiceSummary struct {
	Service     signalbox.Service
	Master      signalbox.DataCenter
	Term        signalbox.Term
	Outstanding int
	// Open are the ids of handovers without an outcome.
	Open []string
	// Taken are the responsibilities that people took, oldest first.
	Taken []handover.Taken
}

// Verify checks a journal's or a backup's whole log against the voters' keys
// without changing the file. Errors are those of Open, and ErrUnavailable while
// a gateway has it open.
func Verify(path string, trust rpc.Trust) (Summary, error) {
	out := Summary{Cluster: trust.Cluster}
	err := guarded(func() error {
		if err := whole(path); err != nil {
			return err
		}
		db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait, ReadOnly: true})
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }()
		return db.View(func(tx *bolt.Tx) error { return out.read(tx, trust) })
	})
	if err != nil {
		return Summary{}, fmt.Errorf("verify journal %s: %w", path, explained(err))
	}
	return out, nil
}

func (s *Summary) read(tx *bolt.Tx, trust rpc.Trust) error {
	for _, name := range [][]byte{bucketBlocks, bucketNotes, bucketRecords, bucketMeta} {
		b := tx.Bucket(name)
		if b == nil {
			return fmt.Errorf("%w: it has no %s: not a journal", signalbox.ErrInvalid, name)
		}
		if err := b.ForEach(func(_, v []byte) error { _ = len(v); return nil }); err != nil {
			return err
		}
	}
	if err := sameCluster(tx, trust); err != nil {
		return err
	}
	l, k, first, err := replay(tx, trust, nil, handover.SnapshotBlocks)
	if err != nil {
		return err
	}
	s.First, s.Snapshot = first, k.index
	if k.proof != nil {
		s.DecidedBy = k.proof.Index
	}
	s.Index, s.Digest = l.Index(), l.Digest()
	s.Restored = tx.Bucket(bucketMeta).Get(keyRestored) != nil
	s.Records = tx.Bucket(bucketRecords).Stats().KeyN
	for _, name := range l.Services() {
		st := l.Service(name)
		v := ServiceSummary{Service: name, Master: st.Master(), Term: st.Term(), Outstanding: len(st.Outstanding), Taken: st.Taken}
		for _, b := range st.Open {
			v.Open = append(v.Open, b.Handover(name).ID)
		}
		s.Services = append(s.Services, v)
	}
	return nil
}

// unused refuses a journal that a running gateway has open: moved aside, that
// gateway would go on writing into it.
func unused(path string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait, ReadOnly: true})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return explained(err)
	}
	if err == nil {
		_ = db.Close()
	}
	return nil // a damaged one may be replaced
}

// Restore puts a backup into dir as the journal, after verifying all of it,
// and marks it as restored. An existing journal is moved aside, never
// overwritten.
func Restore(backup, dir string, trust rpc.Trust) (index uint64, err error) {
	work, err := os.MkdirTemp(dir, "restore-")
	if err != nil {
		return 0, fmt.Errorf("restore journal: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	if _, err := Verify(backup, trust); err != nil {
		return 0, fmt.Errorf("restore journal: %w", err)
	}
	if err := copyFile(backup, filepath.Join(work, FileName)); err != nil {
		return 0, fmt.Errorf("restore journal: %w", err)
	}
	j, err := Open(work, trust, nil)
	if err != nil {
		return 0, fmt.Errorf("restore journal: %w", err)
	}
	index = j.Index()
	err = j.db.Update(func(tx *bolt.Tx) error {
		if leases := tx.Bucket(bucketLeases); leases != nil { // what was promised since is not in it
			if err := leases.Delete([]byte(keyEpoch)); err != nil {
				return err
			}
		}
		return markRestored(tx)
	})
	if cerr := j.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return 0, fmt.Errorf("restore journal: %w", err)
	}
	target := filepath.Join(dir, FileName)
	if _, err := os.Stat(target); err == nil {
		if err := unused(target); err != nil {
			return 0, fmt.Errorf("restore journal: %w", err)
		}
		aside := fmt.Sprintf("%s.before-restore-%d", target, time.Now().UnixNano())
		if err := os.Rename(target, aside); err != nil {
			return 0, fmt.Errorf("restore journal: move the old one aside: %w", err)
		}
	}
	if err := os.Rename(filepath.Join(work, FileName), target); err != nil {
		return 0, fmt.Errorf("restore journal: %w", err)
	}
	return index, syncDir(dir)
}

// syncDir makes a rename durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("restore journal: %w", err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("restore journal: %w", err)
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	if err := out.Sync(); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
