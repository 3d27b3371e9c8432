package identity

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/signalbox-io/signalbox"
)

// A CA or a gossip key is replaced in three steps, with every bundle rotated
// (and its process running with it) between two of them: stage (everybody
// learns the new one), activate (it is used), retire (the old one is no longer
// believed). Each step may be repeated after a crash.

// StageCA makes a new CA that is trusted beside the current one.
func (a *Authority) StageCA(validity time.Duration, now time.Time) error {
	if len(a.trusted) > 1 {
		return fmt.Errorf("stage CA: %w: a rotation is under way: %d CAs are trusted; activate or retire first", signalbox.ErrConflict, len(a.trusted))
	}
	if validity == 0 {
		validity = DefaultCAValidity
	}
	cert, key, err := newCA(a.cluster.Name, validity, now)
	if err != nil {
		return fmt.Errorf("stage CA: %w", err)
	}
	// The key first: ca.pem never names a CA whose key is lost.
	if err := a.writeKey(fileCANext, key); err != nil {
		return fmt.Errorf("stage CA: %w", err)
	}
	a.trusted = append(a.trusted, cert)
	if err := a.save(); err != nil {
		return fmt.Errorf("stage CA: %w", err)
	}
	return nil
}

// ActivateCA signs with the staged CA from now on.
func (a *Authority) ActivateCA() error {
	next := filepath.Join(a.dir, fileCANext)
	if len(a.trusted) < 2 || !exists(next) {
		return fmt.Errorf("activate CA: %w: none is staged", signalbox.ErrConflict)
	}
	if err := os.Rename(next, filepath.Join(a.dir, fileCAKey)); err != nil {
		return fmt.Errorf("activate CA: %w", err)
	}
	if err := syncDir(a.dir); err != nil {
		return fmt.Errorf("activate CA: %w", err)
	}
	opened, err := Open(a.dir)
	if err != nil {
		return fmt.Errorf("activate CA: %w", err)
	}
	*a = *opened
	return nil
}

// RetireCA no longer trusts any CA but the one that signs.
func (a *Authority) RetireCA() error {
	if exists(filepath.Join(a.dir, fileCANext)) && len(a.trusted) > 1 {
		return fmt.Errorf("retire CA: %w: the new one is staged, not activated", signalbox.ErrConflict)
	}
	if len(a.trusted) < 2 {
		return fmt.Errorf("retire CA: %w: only one is trusted", signalbox.ErrConflict)
	}
	a.trusted = []*x509.Certificate{a.signer}
	if err := a.save(); err != nil {
		return fmt.Errorf("retire CA: %w", err)
	}
	return nil
}

// StageGossip makes a new key in every gossip keyring, which all members learn
// to read with.
func (a *Authority) StageGossip() error {
	for _, pool := range a.pools() {
		keys, err := readKeyring(a.keyringPath(pool))
		if err != nil {
			return fmt.Errorf("stage gossip key: %w", err)
		}
		next, err := a.nextGossipKey(pool)
		if err != nil {
			return fmt.Errorf("stage gossip key: %w", err)
		}
		if next == nil {
			if len(keys) > 1 {
				return fmt.Errorf("stage gossip key: %w: the old key is not retired yet", signalbox.ErrConflict)
			}
			if next, err = newGossipKey(); err != nil {
				return err
			}
			if err := writeFile(a.nextPath(pool), encodeKeyring([][]byte{next}), modeSecret); err != nil {
				return fmt.Errorf("stage gossip key: %w", err)
			}
		}
		if err := writeFile(a.keyringPath(pool), encodeKeyring([][]byte{keys[0], next}), modeSecret); err != nil {
			return fmt.Errorf("stage gossip key: %w", err)
		}
	}
	return nil
}

// ActivateGossip makes the staged keys the primary ones.
func (a *Authority) ActivateGossip() error {
	staged := false
	for _, pool := range a.pools() {
		next, err := a.nextGossipKey(pool)
		if err != nil {
			return fmt.Errorf("activate gossip key: %w", err)
		}
		if next == nil {
			continue
		}
		staged = true
		keys, err := readKeyring(a.keyringPath(pool))
		if err != nil {
			return fmt.Errorf("activate gossip key: %w", err)
		}
		ring := [][]byte{next}
		for _, k := range keys {
			if !bytes.Equal(k, next) {
				ring = append(ring, k)
			}
		}
		if err := writeFile(a.keyringPath(pool), encodeKeyring(ring), modeSecret); err != nil {
			return fmt.Errorf("activate gossip key: %w", err)
		}
		if err := os.Remove(a.nextPath(pool)); err != nil {
			return fmt.Errorf("activate gossip key: %w", err)
		}
	}
	if !staged {
		return fmt.Errorf("activate gossip key: %w: none is staged", signalbox.ErrConflict)
	}
	return nil
}

// RetireGossip drops every key but the primary ones.
func (a *Authority) RetireGossip() error {
	retired := false
	for _, pool := range a.pools() {
		if exists(a.nextPath(pool)) {
			return fmt.Errorf("retire gossip key: %w: the new one is staged, not activated", signalbox.ErrConflict)
		}
		keys, err := readKeyring(a.keyringPath(pool))
		if err != nil {
			return fmt.Errorf("retire gossip key: %w", err)
		}
		if len(keys) == 1 {
			continue
		}
		retired = true
		if err := writeFile(a.keyringPath(pool), encodeKeyring(keys[:1]), modeSecret); err != nil {
			return fmt.Errorf("retire gossip key: %w", err)
		}
	}
	if !retired {
		return fmt.Errorf("retire gossip key: %w: every keyring has one key", signalbox.ErrConflict)
	}
	return nil
}

func (a *Authority) nextPath(pool string) string { return filepath.Join(a.dir, pool+suffixNext) }

// nextGossipKey returns the staged key of a pool, nil when there is none.
func (a *Authority) nextGossipKey(pool string) ([]byte, error) {
	keys, err := readKeyring(a.nextPath(pool))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return keys[0], nil
}
