package warden

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is a line of /proc/*/stat.
type process struct {
	parent, session int
	born            uint64
	dead            bool // a zombie: it does nothing any more
}

func readProcess(pid int) (process, bool) {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return process{}, false
	}
	end := bytes.LastIndexByte(raw, ')') // the name before it may hold anything
	fields := strings.Fields(string(raw[end+1:]))
	if end < 0 || len(fields) < 20 {
		return process{}, false
	}
	var p process
	p.dead = fields[0] == "Z" || fields[0] == "X"
	p.parent, _ = strconv.Atoi(fields[1])
	p.session, _ = strconv.Atoi(fields[3])
	p.born, err = strconv.ParseUint(fields[19], 10, 64)
	return p, err == nil
}

func processes() map[int]process {
	all := map[int]process{}
	dir, err := os.Open("/proc")
	if err != nil {
		return all
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what was read counts
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok {
			all[pid] = p
		}
	}
	return all
}

// groupEnv, set to off, has a warden make no control group.
const groupEnv = "SIGNALBOX_WARDEN_CGROUP"

// group is the service's control group, where one may be made.
type group struct{ path string }

// newGroup names it after the directory: the next warden finds it again.
func newGroup(dir string) *group {
	parent := ownGroup()
	if parent == "" || os.Getenv(groupEnv) == "off" {
		return &group{}
	}
	sum := sha256.Sum256([]byte(dir))
	return &group{path: filepath.Join(parent, "signalbox-"+hex.EncodeToString(sum[:8]))}
}

// ownGroup is the control group (version 2) of this process; "" for none.
func ownGroup() string {
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(raw)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
				var fs unix.Statfs_t
				if unix.Statfs(mount, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
					return filepath.Join(mount, path)
				}
			}
		}
	}
	return ""
}

// open makes the group and opens it for forking into; nil where that is not
// allowed, or where the kernel cannot kill a group at once.
func (g *group) open() *os.File {
	if g.path == "" || os.Mkdir(g.path, 0o755) != nil && !g.exists() {
		return nil
	}
	if _, err := os.Stat(filepath.Join(g.path, "cgroup.kill")); err != nil {
		g.remove()
		return nil
	}
	dir, err := os.Open(g.path)
	if err != nil {
		return nil
	}
	return dir
}

func (g *group) exists() bool {
	info, err := os.Stat(g.path)
	return err == nil && info.IsDir()
}

// killAll kills everything in the group, frozen or not. Nothing when there is none.
func (g *group) killAll() {
	if g.path != "" {
		_ = os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0) // no group: nothing in it
	}
}

func (g *group) populated() bool {
	raw, err := os.ReadFile(filepath.Join(g.path, "cgroup.events"))
	return err == nil && bytes.Contains(raw, []byte("populated 1"))
}

func (g *group) remove() {
	if g.path != "" {
		_ = os.Remove(g.path) // fails while something is in it, and is tried again at the next end
	}
}
