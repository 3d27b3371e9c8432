package managed

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// A Finding is a problem, and whether it keeps the instance from being ready.
type Finding struct {
	driver.Problem
	Blocks bool
}

// Found makes a finding; what is a format.
func Found(blocks bool, name, do, what string, args ...any) Finding {
	return Finding{Blocks: blocks, Problem: driver.Problem{Name: name, What: fmt.Sprintf(what, args...), Do: do}}
}

// Readiness sums findings up; those that block come first.
func Readiness(all ...Finding) driver.Readiness {
	r := driver.Readiness{Ready: true}
	for _, blocks := range []bool{true, false} {
		for _, f := range all {
			if f.Blocks != blocks || len(r.Problems) == driver.MaxProblems {
				continue
			}
			if blocks && r.Ready {
				r.Ready, r.Problem = false, f.Name+": "+f.What+"; "+f.Do
			}
			r.Problems = append(r.Problems, f.Problem)
		}
	}
	return r
}

// A Disk is the room where a server writes.
type Disk struct {
	Path string
	Free uint64 // bytes
}

// Disks looks at the room behind paths, each disk once; what cannot be looked at
// is left out.
func Disks(paths ...string) []Disk {
	var out []Disk
	seen := map[unix.Fsid]bool{}
	for _, path := range paths {
		var room unix.Statfs_t
		if path == "" || unix.Statfs(path, &room) != nil || seen[room.Fsid] {
			continue
		}
		seen[room.Fsid] = room.Fsid != unix.Fsid{}
		out = append(out, Disk{Path: path, Free: room.Bavail * uint64(room.Bsize)})
	}
	return out
}

// JudgeDisks names the disks with less room than min bytes. use says what is
// written there.
func JudgeDisks(disks []Disk, min uint64, use string) []Finding {
	var out []Finding
	for _, d := range disks {
		if d.Free < min {
			out = append(out, Found(true, "disk-low", "make room on that disk; "+use, "%s has %s free, less than %s", d.Path, signalbox.Size(d.Free), signalbox.Size(min)))
		}
	}
	return out
}
