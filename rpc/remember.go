package rpc

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// maxRemembered bounds how many signatures a remembering verifier knows.
const maxRemembered = 256

// Remember returns a verifier that does not verify again what fitted before: a
// block comes with its own bytes, in orders and in certificates, and a check of
// the quorum's signature is what takes longest of opening it. Safe for
// concurrent use.
func Remember(v QuorumVerifier) QuorumVerifier {
	return &remembering{verifier: v, known: map[[sha256.Size]byte]bool{}}
}

type remembering struct {
	verifier QuorumVerifier

	mu    sync.Mutex
	known map[[sha256.Size]byte]bool
	order [][sha256.Size]byte // the oldest first
}

// VerifyQuorum implements QuorumVerifier.
func (r *remembering) VerifyQuorum(scheme string, message, signature []byte) error {
	print := fingerprint([]byte(scheme), message, signature)
	r.mu.Lock()
	known := r.known[print]
	r.mu.Unlock()
	if known {
		return nil
	}
	if err := r.verifier.VerifyQuorum(scheme, message, signature); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[print] {
		return nil
	}
	if len(r.order) >= maxRemembered {
		delete(r.known, r.order[0])
		r.order = r.order[1:]
	}
	r.known[print] = true
	r.order = append(r.order, print)
	return nil
}

// fingerprint hashes parts with their lengths, so that no two lists of parts are
// the same bytes.
func fingerprint(parts ...[]byte) (out [sha256.Size]byte) {
	h := sha256.New()
	for _, p := range parts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(p)))
		h.Write(length[:])
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}
