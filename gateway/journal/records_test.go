package journal

import (
	"errors"
	"fmt"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signalbox-io/signalbox"
)

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
