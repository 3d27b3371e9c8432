package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Keys are rotated in three rounds over all members, each finished everywhere
// before the next one starts: AddKey(new), UseKey(new), RemoveKey(old).

var (
	// ErrUnknownKey is returned by UseKey and RemoveKey for a key that was not
	// added.
	ErrUnknownKey = errors.New("gossip: key is not in the keyring; add it everywhere first")
	// ErrKeyInUse is returned by RemoveKey for the key that encrypts.
	ErrKeyInUse = errors.New("gossip: key encrypts; use another one everywhere first")
)

// AddKey lets messages that are encrypted with the key be read from now on.
func (p *Pool) AddKey(key []byte) error {
	p.keys.Lock()
	defer p.keys.Unlock()
	if len(key) != KeySize {
		return ErrKeySize
	}
	have := p.ring.GetKeys()
	if indexKey(have, key) < 0 && len(have) >= MaxKeys {
		return fmt.Errorf("add gossip key: %d keys already; remove old ones first", len(have))
	}
	return p.ring.AddKey(bytes.Clone(key))
}

// UseKey encrypts with the key from now on. It returns ErrUnknownKey when it
// was not added.
func (p *Pool) UseKey(key []byte) error {
	p.keys.Lock()
	defer p.keys.Unlock()
	if indexKey(p.ring.GetKeys(), key) < 0 {
		return ErrUnknownKey
	}
	return p.ring.UseKey(key)
}

// RemoveKey refuses messages that are encrypted with the key from now on. It
// returns ErrKeyInUse for the key that encrypts.
func (p *Pool) RemoveKey(key []byte) error {
	p.keys.Lock()
	defer p.keys.Unlock()
	keys := slices.Clone(p.ring.GetKeys())
	at := indexKey(keys, key)
	switch {
	case at < 0:
		return ErrUnknownKey
	case at == 0:
		return ErrKeyInUse
	}
	// memberlist 0.7.0 removes a key by shifting the ones behind it in the
	// array that its readers hold without a lock. Removing the last one shifts
	// nothing, so those behind are taken out first and put back.
	for i := len(keys) - 1; i >= at; i-- {
		if err := p.ring.RemoveKey(keys[i]); err != nil {
			return fmt.Errorf("remove gossip key: %w", err)
		}
	}
	for _, k := range keys[at+1:] {
		if err := p.ring.AddKey(k); err != nil {
			return fmt.Errorf("restore gossip key: %w", err)
		}
	}
	return nil
}

func indexKey(keys [][]byte, key []byte) int {
	return slices.IndexFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
}

// SetKeys makes the keyring these keys, the first of which encrypts: one round of
// a rotation, as the files of a bundle have it. A member that has not gone the
// round yet is understood as long as the rounds are finished everywhere one after
// the other. It returns ErrNoKey or ErrKeySize and changes nothing when the keys
// are not fit.
func (p *Pool) SetKeys(keys [][]byte) error {
	if err := checkKeys(keys); err != nil {
		return err
	}
	for _, key := range keys {
		if err := p.AddKey(key); err != nil {
			return err
		}
	}
	if err := p.UseKey(keys[0]); err != nil {
		return err
	}
	for _, have := range p.ring.GetKeys() {
		if indexKey(keys, have) < 0 {
			if err := p.RemoveKey(have); err != nil {
				return err
			}
		}
	}
	return nil
}
