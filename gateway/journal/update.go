package journal

import (
	bolt "go.etcd.io/bbolt"

	"github.com/signalbox-io/signalbox/rpc/failpoint"
)

// update changes the file, durable when it returns nil. The names of its steps
// are where tests kill the process: before anything is written, when all is
// handed to the file and nothing synced, and when it is durable and nobody knows.
func (j *Journal) update(name string, change func(*bolt.Tx) error) error {
	failpoint.Reach("journal-" + name + "-before")
	err := j.db.Update(func(tx *bolt.Tx) error {
		if err := change(tx); err != nil {
			return err
		}
		failpoint.Reach("journal-" + name + "-unsynced")
		return nil
	})
	if err == nil {
		failpoint.Reach("journal-" + name + "-durable")
	}
	return err
}
