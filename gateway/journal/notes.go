package journal

import (
	"fmt"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// A Kind is a kind of note: what a gateway keeps beside the log. Notes are
// hints that save a question after a restart; the log and the signatures decide.
type Kind string

// The kinds of notes.
const (
	KindCertificate Kind = "certificate" // by service: the newest certificate known
	KindStatement   Kind = "statement"   // by statement key: answers that may still count
	KindEndpoints   Kind = "endpoints"   // by service: where the master was last seen
)

// PutNote keeps a note, durable when it returns.
func (j *Journal) PutNote(kind Kind, key string, value []byte) error {
	err := j.update("note-"+string(kind), func(tx *bolt.Tx) error {
		return tx.Bucket(bucketNotes).Put([]byte(string(kind)+"/"+key), value)
	})
	if err != nil {
		return fmt.Errorf("keep %s %s: %w", kind, key, err)
	}
	return nil
}

// Notes returns all notes of a kind by key.
func (j *Journal) Notes(kind Kind) (map[string][]byte, error) {
	out := map[string][]byte{}
	prefix := string(kind) + "/"
	err := j.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketNotes).Cursor()
		for k, v := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, v = c.Next() {
			out[strings.TrimPrefix(string(k), prefix)] = append([]byte(nil), v...)
		}
		return nil
	})
	return out, err
}

// DropNotes forgets the notes of a kind whose keys gone names.
func (j *Journal) DropNotes(kind Kind, gone func(key string) bool) error {
	prefix := string(kind) + "/"
	return j.update("drop-"+string(kind), func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketNotes)
		var keys [][]byte
		c := b.Cursor()
		for k, _ := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, _ = c.Next() {
			if gone(strings.TrimPrefix(string(k), prefix)) {
				keys = append(keys, append([]byte(nil), k...))
			}
		}
		for _, k := range keys {
			if err := b.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}
