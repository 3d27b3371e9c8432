package agent

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/failpoint"
)

// The files of an instance's directory.
const (
	lockFile  = "lock"
	keyFile   = "key.pem"
	stateFile = "state"
	// refusedFile keeps the state of an identity that was given up, for people.
	refusedFile = "state.refused"
)

const (
	// compactAt is the size of the state file, in bytes, from which on it is
	// written anew, outside any answer.
	compactAt = 8 << 20
	// maxStateFile is the largest state file that is read, in bytes.
	maxStateFile = 64 << 20
)

// errRefusedKey is returned when key and state do not belong together any more:
// the key must not be used again (rule 8).
var errRefusedKey = errors.New("state does not fit the key")

// line is one line of the state file: the state of an identity, then records.
// Each line is the CRC-32C of its JSON in hexadecimal, a space, the JSON.
type line struct {
	Identity signalbox.Identity `json:"identity,omitempty"`
	State    *state             `json:"state,omitempty"`
	Record   *record            `json:"record,omitempty"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// store is an instance's directory: its key and what it must not forget. Owned
// by one goroutine.
//
// What was appended with sync survives the machine's crash, what was appended
// without it survives the process's. A torn last line was never synced, so
// nothing was said because of it, and it is dropped. The store cannot tell that
// the whole directory was replaced by an older copy; the gateways remember the
// highest incarnation for that, and what its start drew.
type store struct {
	dir   string
	lock  *os.File
	file  *os.File
	size  int64
	key   ed25519.PrivateKey
	state state
	// why says that a new key had to be made, and for what reason.
	why string
	// fault, in tests, is called before each step that reaches the disk; an
	// error is the crash.
	fault func(step string) error
}

// openStore opens or creates the directory, locks it and counts the incarnation
// up. The state it returns in store.state is durable.
func openStore(dir string, fault func(string) error) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	s := &store{dir: dir, fault: fault}
	var err error
	if s.lock, err = os.OpenFile(s.path(lockFile), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = s.lock.Close() // it holds nothing
		return nil, fmt.Errorf("lock state directory %s: %w: another agent uses it; give each instance a directory of its own", dir, err)
	}
	if err := s.load(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *store) path(name string) string { return filepath.Join(s.dir, name) }

func (s *store) identity() signalbox.Identity {
	return rpc.IdentityOf(s.key.Public().(ed25519.PublicKey))
}

func (s *store) load() error {
	key, keyErr := readKey(s.path(keyFile))
	raw, stateErr := readBounded(s.path(stateFile), maxStateFile)
	switch {
	case errors.Is(keyErr, os.ErrNotExist) && errors.Is(stateErr, os.ErrNotExist):
		return s.renew("")
	case keyErr != nil && !errors.Is(keyErr, os.ErrNotExist) && !errors.Is(keyErr, signalbox.ErrInvalid):
		return fmt.Errorf("open state: %w", keyErr) // unreadable is not lost
	case stateErr != nil && !errors.Is(stateErr, os.ErrNotExist) && !errors.Is(stateErr, signalbox.ErrInvalid):
		return fmt.Errorf("open state: %w", stateErr)
	case keyErr != nil:
		return s.renew("key: " + keyErr.Error())
	case stateErr != nil:
		return s.renew("state: " + stateErr.Error())
	}
	s.key = key
	st, err := replay(raw, s.identity())
	if err != nil {
		return s.renew(err.Error())
	}
	st.Incarnation++
	s.state = st
	return s.compact()
}

// renew gives up the key that is there, if any, and makes a new one with an
// empty state. The old identity stays outstanding.
func (s *store) renew(why string) error {
	if err := s.step("renew"); err != nil {
		return err
	}
	err := os.Remove(s.path(keyFile)) // first: from here on nobody can use it
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("give up key: %w", err)
	}
	err = os.Rename(s.path(stateFile), s.path(refusedFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("give up state: %w", err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return fmt.Errorf("make instance key: %w", err)
	}
	s.key, s.state, s.why = key, state{Incarnation: 1}, why
	if err := s.compact(); err != nil {
		return err
	}
	return s.writeKey()
}

// append writes a change of the state; with sync it is durable when append
// returns. After an error nobody knows what is on disk: the store must be closed
// and opened again.
func (s *store) append(r record, sync bool) error {
	point := "agent-" + r.what()
	failpoint.Reach(point + "-before")
	s.state.apply(r)
	buf, err := encodeLine(line{Record: &r})
	if err != nil {
		return err
	}
	if err := s.step("append"); err != nil {
		_, _ = s.file.Write(buf[:len(buf)/2]) // a torn write, as a crash leaves it
		return err
	}
	n, err := s.file.Write(buf)
	s.size += int64(n)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	failpoint.Reach(point + "-unsynced")
	if !sync {
		return nil
	}
	if err := s.step("sync"); err != nil {
		return err
	}
	if err := dataSync(s.file); err != nil {
		return fmt.Errorf("sync state: %w", err)
	}
	failpoint.Reach(point + "-durable")
	return nil
}

// tidy writes the file anew when it has grown. Call it when nobody waits.
func (s *store) tidy() error {
	if s.size < compactAt {
		return nil
	}
	return s.compact()
}

// compact replaces the file by one line with the whole state.
func (s *store) compact() error {
	buf, err := encodeLine(line{Identity: s.identity(), State: &s.state})
	if err != nil {
		return err
	}
	if err := s.replace(stateFile, buf); err != nil {
		return err
	}
	file, err := os.OpenFile(s.path(stateFile), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open state: %w", err)
	}
	if s.file != nil {
		_ = s.file.Close() // what had to last was synced
	}
	s.file, s.size = file, int64(len(buf))
	return nil
}

// replace writes a file so that a crash leaves the old or the new one.
func (s *store) replace(name string, data []byte) error {
	temp := s.path(name + ".new")
	if err := s.step("create " + name); err != nil {
		return err
	}
	file, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := s.step("rename " + name); err != nil {
		return err
	}
	if err := os.Rename(temp, s.path(name)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := s.step("sync directory"); err != nil {
		return err
	}
	return syncDir(s.dir)
}

func (s *store) step(name string) error {
	failpoint.Reach("agent-" + strings.ReplaceAll(name, " ", "-"))
	if s.fault == nil {
		return nil
	}
	return s.fault(name)
}

// close releases the directory.
func (s *store) close() {
	if s.file != nil {
		_ = s.file.Close() // what had to last was synced
	}
	_ = s.lock.Close() // the lock goes with it
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(raw)) > limit {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", signalbox.ErrInvalid, path, limit)
	}
	return raw, err
}

func encodeLine(l line) ([]byte, error) {
	body, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	buf := make([]byte, 0, len(body)+10)
	buf = fmt.Appendf(buf, "%08x ", crc32.Checksum(body, castagnoli))
	return append(append(buf, body...), '\n'), nil
}

// replay reads a state file. Only what follows the last line end may be torn.
func replay(raw []byte, id signalbox.Identity) (state, error) {
	var st state
	first := true
	for {
		text, rest, whole := bytes.Cut(raw, []byte{'\n'})
		if !whole {
			break
		}
		raw = rest
		l, err := decodeLine(text)
		switch {
		case err != nil:
			return state{}, err
		case first && (l.State == nil || l.Identity != id):
			return state{}, fmt.Errorf("%w: it is the state of identity %q", errRefusedKey, l.Identity)
		case !first && l.Record == nil:
			return state{}, fmt.Errorf("%w: a line without a record", errRefusedKey)
		case first:
			st, first = *l.State, false
		default:
			st.apply(*l.Record)
		}
	}
	if first {
		return state{}, fmt.Errorf("%w: it is empty", errRefusedKey)
	}
	return st, nil
}

func decodeLine(text []byte) (line, error) {
	sum, body, ok := bytes.Cut(text, []byte{' '})
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !ok || err != nil || crc32.Checksum(body, castagnoli) != uint32(want) {
		return line{}, fmt.Errorf("%w: its checksum does not fit", errRefusedKey)
	}
	var l line
	if err := json.Unmarshal(body, &l); err != nil {
		return line{}, fmt.Errorf("%w: %w", errRefusedKey, err)
	}
	return l, nil
}
