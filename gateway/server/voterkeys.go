package server

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

// voterKeysFile is in a gateway's state directory, beside the journal and lost with
// it. Backups of the journal do not hold it.
const voterKeysFile = "voter-keys.json"

// maxVoterKeys is how many keys a gateway keeps: more than one is only needed until
// the log has its newest.
const maxVoterKeys = 16

// voterKeys are the keys that this gateway made for itself to vote with, oldest
// first.
type voterKeys struct {
	path    string
	journal *journal.Journal

	mu   sync.Mutex
	keys []voterKey
}

// voterKey is one voter's private keys, and what others may know of them.
type voterKey struct {
	Seed           []byte `json:"seed"`             // Ed25519
	Secret         []byte `json:"signature_secret"` // of the scheme with keys of its own
	SignatureKey   []byte `json:"signature_key"`
	SignatureProof []byte `json:"signature_proof"`
}

func (k *voterKey) private() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(k.Seed) }

func (k *voterKey) public() ed25519.PublicKey { return k.private().Public().(ed25519.PublicKey) }

func openVoterKeys(dir string, j *journal.Journal) (*voterKeys, error) {
	k := &voterKeys{path: filepath.Join(dir, voterKeysFile), journal: j}
	raw, err := os.ReadFile(k.path)
	if errors.Is(err, os.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read voter keys: %w", err)
	}
	if err := json.Unmarshal(raw, &k.keys); err != nil {
		return nil, fmt.Errorf("read voter keys %s: %w: %w", k.path, signalbox.ErrInvalid, err)
	}
	for i := range k.keys {
		if len(k.keys[i].Seed) != ed25519.SeedSize {
			return nil, fmt.Errorf("read voter keys %s: %w: key %d", k.path, signalbox.ErrInvalid, i)
		}
	}
	return k, nil
}

// find returns the private keys of a public one.
func (k *voterKeys) find(public []byte) (ed25519.PrivateKey, []byte, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.keys {
		if k.keys[i].public().Equal(ed25519.PublicKey(public)) {
			return k.keys[i].private(), k.keys[i].Secret, true
		}
	}
	return nil, nil, false
}

// candidate returns a key that was in no voter set yet, with its proofs; it makes
// one where there is none. One that is not as old as the journal does not count: the
// journal may have been lost after it voted.
func (k *voterKeys) candidate(cluster, name string, dc signalbox.DataCenter, epochs *rpc.Epochs) (signalbox.Voter, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := len(k.keys) - 1; i >= 0; i-- {
		key := &k.keys[i]
		if _, _, had := epochs.Had(key.public()); !had && k.journal.KeptKey(key.public()) {
			return key.voter(cluster, name, dc), nil
		}
	}
	key, err := newVoterKey()
	if err != nil {
		return signalbox.Voter{}, err
	}
	keys := append(append([]voterKey(nil), k.keys...), *key)
	keys = keys[max(0, len(keys)-maxVoterKeys):]
	if err := k.write(keys); err != nil {
		return signalbox.Voter{}, err
	}
	k.keys = keys
	if err := k.journal.KeyMade(key.public()); err != nil {
		return signalbox.Voter{}, err
	}
	return key.voter(cluster, name, dc), nil
}

func newVoterKey() (*voterKey, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make voter key: %w", err)
	}
	key := &voterKey{Seed: private.Seed()}
	if key.Secret, key.SignatureKey, key.SignatureProof, err = signature.NewMultiKey(); err != nil {
		return nil, fmt.Errorf("make voter key: %w", err)
	}
	return key, nil
}

func (k *voterKey) voter(cluster, name string, dc signalbox.DataCenter) signalbox.Voter {
	v := signalbox.Voter{Name: name, DataCenter: dc, SignatureKey: k.SignatureKey, SignatureProof: k.SignatureProof}
	rpc.ProveVoter(cluster, &v, k.private())
	return v
}

// write replaces the file so that a crash leaves the old or the new one.
func (k *voterKeys) write(keys []voterKey) error {
	raw, err := json.MarshalIndent(keys, "", "  ")
	if err != nil {
		return fmt.Errorf("write voter keys: %w", err)
	}
	temp := k.path + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write voter keys: %w", err)
	}
	_, err = f.Write(append(raw, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(temp, k.path)
	}
	if err != nil {
		return fmt.Errorf("write voter keys: %w", err)
	}
	dir, err := os.Open(filepath.Dir(k.path))
	if err != nil {
		return fmt.Errorf("write voter keys: %w", err)
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}
