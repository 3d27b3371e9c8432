package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signalbox-io/signalbox"
)

// MaxRecords is how many cutover records are kept; the oldest go first.
const MaxRecords = 10000

func recordKey(started time.Time, id string) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(started.UnixNano())), id...)
}

// indexRecords counts the records and finds each by its handover.
func (j *Journal) indexRecords(tx *bolt.Tx) error {
	byID := tx.Bucket(bucketRecordIDs)
	j.records = 0
	return tx.Bucket(bucketRecords).ForEach(func(k, _ []byte) error {
		j.records++
		if len(k) < 8 || bytes.Equal(byID.Get(k[8:]), k) {
			return nil
		}
		return byID.Put(bytes.Clone(k[8:]), bytes.Clone(k))
	})
}

// PutRecord keeps the cutover record of a handover, in the place of an earlier
// one of the same.
func (j *Journal) PutRecord(id string, started time.Time, record []byte) error {
	if id == "" || started.UnixNano() < 0 {
		return fmt.Errorf("keep record %q: %w: it needs an id and a time", id, signalbox.ErrInvalid)
	}
	j.write.Lock()
	defer j.write.Unlock()
	var count int
	err := j.update("record", func(tx *bolt.Tx) error {
		records, byID := tx.Bucket(bucketRecords), tx.Bucket(bucketRecordIDs)
		count = j.records
		if old := byID.Get([]byte(id)); old != nil {
			if err := records.Delete(old); err != nil {
				return err
			}
			count--
		}
		key := recordKey(started, id)
		if err := records.Put(key, record); err != nil {
			return err
		}
		if err := byID.Put([]byte(id), key); err != nil {
			return err
		}
		for count++; count > MaxRecords; count-- {
			oldest, _ := records.Cursor().First()
			if err := byID.Delete(oldest[8:]); err != nil {
				return err
			}
			if err := records.Delete(oldest); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep record %s: %w", id, err)
	}
	j.records = count
	return nil
}

// Records calls f with the records, newest first, until f returns false. f must
// not keep the record's bytes.
func (j *Journal) Records(f func(id string, record []byte) bool) error {
	return j.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketRecords).Cursor()
		for k, v := c.Last(); k != nil; k, v = c.Prev() {
			if len(k) < 8 {
				continue
			}
			if !f(string(k[8:]), v) {
				break
			}
		}
		return nil
	})
}

// Record returns the record of a handover; ErrUnknown when there is none.
func (j *Journal) Record(id string) ([]byte, error) {
	var out []byte
	err := j.db.View(func(tx *bolt.Tx) error {
		if key := tx.Bucket(bucketRecordIDs).Get([]byte(id)); key != nil {
			out = bytes.Clone(tx.Bucket(bucketRecords).Get(key))
		}
		return nil
	})
	if err == nil && out == nil {
		err = fmt.Errorf("%w: handover %q", signalbox.ErrUnknown, id)
	}
	return out, err
}
