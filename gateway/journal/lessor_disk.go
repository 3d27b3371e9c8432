package journal

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/lease"
)

// bucketLeases holds what a voter promised about leases: "longest", "stopped" and
// "epoch" (big-endian), "promise/service/identity" (JSON).
var bucketLeases = []byte("leases")

const (
	keyLongest    = "longest"
	keyStopped    = "stopped"
	keyEpoch      = "epoch" // of the newest voter set that this journal granted for
	promisePrefix = "promise/"
)

// impliedByLog returns what any voter may have promised or granted by the log.
func (j *Journal) impliedByLog() (out []lease.Change) {
	j.View(func(l *handover.Ledger) { out = l.LeaseChanges() })
	return out
}

// writeLeases makes changes, durable when it returns.
func (j *Journal) writeLeases(epoch uint64, changes ...lease.Change) error {
	err := j.update("lease", func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketLeases)
		if err != nil {
			return err
		}
		saved, _, err := readLeases(b)
		if err != nil {
			return err
		}
		for _, c := range changes {
			saved.Apply(c)
			if c.Promise == (lease.Promise{}) {
				continue
			}
			value, err := json.Marshal(saved.Promises[c.Of])
			if err != nil {
				return err
			}
			if err := b.Put([]byte(promisePrefix+string(c.Of.Service)+"/"+string(c.Of.Identity)), value); err != nil {
				return err
			}
		}
		for key, n := range map[string]uint64{keyLongest: uint64(saved.Longest), keyStopped: saved.Stopped, keyEpoch: epoch} {
			if err := b.Put([]byte(key), binary.BigEndian.AppendUint64(nil, n)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep what was promised about leases: %w", err)
	}
	return nil
}

func (j *Journal) readLeases() (saved lease.Saved, epoch uint64, err error) {
	err = j.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketLeases)
		if b == nil {
			return nil
		}
		saved, epoch, err = readLeases(b)
		return err
	})
	return saved, epoch, err
}

func readLeases(b *bolt.Bucket) (saved lease.Saved, epoch uint64, err error) {
	number := func(key string) uint64 {
		if v := b.Get([]byte(key)); len(v) == 8 {
			return binary.BigEndian.Uint64(v)
		}
		return 0
	}
	saved = lease.Saved{Longest: time.Duration(number(keyLongest)), Stopped: number(keyStopped)}
	c := b.Cursor()
	for k, v := c.Seek([]byte(promisePrefix)); k != nil && strings.HasPrefix(string(k), promisePrefix); k, v = c.Next() {
		service, id, ok := strings.Cut(strings.TrimPrefix(string(k), promisePrefix), "/")
		var p lease.Promise
		if err := json.Unmarshal(v, &p); err != nil || !ok {
			return saved, 0, fmt.Errorf("%w: promise %q", signalbox.ErrInvalid, k)
		}
		saved.Apply(lease.Change{Of: lease.Of{Service: signalbox.Service(service), Identity: signalbox.Identity(id)}, Promise: p})
	}
	return saved, number(keyEpoch), nil
}
