package journal

import (
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/signalbox-io/signalbox/membership/agreement"
)

// What a voter among several keeps beside the log.
var (
	bucketAgreement = []byte("agreement")
	keyState        = []byte("state")  // agreement.State of the slot under way
	keyBegun        = []byte("begun")  // this voter set was seen whole and new
	keySilent       = []byte("silent") // index, then epoch
)

// madePrefix and a public key: that key was made beside this journal.
const madePrefix = "made/"

// opened is keyBegun's value once all other voters were seen to have begun too.
const opened = "open"

// putState keeps the votes of the slot under way; they may leave when it has
// returned. An error ends this journal's writing.
func (j *Journal) putState(s *agreement.State) error {
	if err := j.Failed(); err != nil {
		return err
	}
	raw, err := s.Encode()
	if err != nil {
		return err
	}
	if err := j.update("vote", func(tx *bolt.Tx) error { return tx.Bucket(bucketAgreement).Put(keyState, raw) }); err != nil {
		return j.fail(s.Slot, err)
	}
	return nil
}

// state returns the votes that were kept last, nil for none.
func (j *Journal) state() (s *agreement.State, err error) {
	err = j.db.View(func(tx *bolt.Tx) error {
		raw := tx.Bucket(bucketAgreement).Get(keyState)
		if raw == nil {
			return nil
		}
		s, err = agreement.DecodeState(append([]byte(nil), raw...))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read votes: %w", err)
	}
	return s, nil
}

// Begun reports whether this voter knows that it forgot nothing: it began with
// the cluster, or came back since (see Comeback).
func (j *Journal) Begun() bool {
	begun := false
	_ = j.db.View(func(tx *bolt.Tx) error {
		begun = tx.Bucket(bucketAgreement).Get(keyBegun) != nil
		return nil
	})
	return begun && !j.Restored()
}

// silent returns up to which index the others have to decide before this voter
// votes again as part of an epoch's voter set; 0 when that is not known yet. What
// it learned as part of an earlier set does not bound what it voted for in this one.
func (j *Journal) silent(epoch uint64) (index uint64) {
	_ = j.db.View(func(tx *bolt.Tx) error {
		raw := tx.Bucket(bucketAgreement).Get(keySilent)
		if len(raw) == 16 && binary.BigEndian.Uint64(raw[8:]) == epoch {
			index = binary.BigEndian.Uint64(raw)
		}
		return nil
	})
	return index
}

func (j *Journal) setSilent(index, epoch uint64) error {
	err := j.update("silent", func(tx *bolt.Tx) error {
		raw := binary.BigEndian.AppendUint64(nil, index)
		return tx.Bucket(bucketAgreement).Put(keySilent, binary.BigEndian.AppendUint64(raw, epoch))
	})
	if err != nil {
		return fmt.Errorf("keep silent: %w", err)
	}
	return nil
}

// markRestored forgets what this voter knew of its votes: a backup's are not the
// newest.
func markRestored(tx *bolt.Tx) error {
	if tx.Bucket(bucketAgreement) != nil {
		if err := tx.DeleteBucket(bucketAgreement); err != nil {
			return err
		}
	}
	return tx.Bucket(bucketMeta).Put(keyRestored, []byte{1})
}

// fromBackup reports whether the journal was restored, as against new.
func (j *Journal) fromBackup() (restored bool) {
	_ = j.db.View(func(tx *bolt.Tx) error {
		restored = tx.Bucket(bucketMeta).Get(keyRestored) != nil
		return nil
	})
	return restored
}

// allBegun reports whether all voters were seen to have begun.
func (j *Journal) allBegun() (open bool) {
	_ = j.db.View(func(tx *bolt.Tx) error {
		open = string(tx.Bucket(bucketAgreement).Get(keyBegun)) == opened
		return nil
	})
	return open
}

func (j *Journal) setAllBegun() error {
	return j.update("all-begun", func(tx *bolt.Tx) error { return tx.Bucket(bucketAgreement).Put(keyBegun, []byte(opened)) })
}

// KeyMade notes that a voter's key was made beside this journal: what the journal
// does not hold, the key has not signed. It has to return before the key is shown
// to anybody.
func (j *Journal) KeyMade(public []byte) error {
	err := j.update("key-made", func(tx *bolt.Tx) error {
		return tx.Bucket(bucketAgreement).Put(append([]byte(madePrefix), public...), []byte{1})
	})
	if err != nil {
		return fmt.Errorf("note the voter's key: %w", err)
	}
	return nil
}

// KeptKey reports whether the journal is as old as a voter's key.
func (j *Journal) KeptKey(public []byte) (made bool) {
	_ = j.db.View(func(tx *bolt.Tx) error {
		made = tx.Bucket(bucketAgreement).Get(append([]byte(madePrefix), public...)) != nil
		return nil
	})
	return made && !j.fromBackup()
}

// begin ends the doubt.
func (j *Journal) begin() error {
	err := j.update("begin", func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketAgreement)
		if err := b.Delete(keySilent); err != nil {
			return err
		}
		return b.Put(keyBegun, []byte{1})
	})
	if err != nil {
		return fmt.Errorf("begin voting: %w", err)
	}
	return j.CaughtUp()
}
