package signalbox

import "fmt"

// Maxima of voter sets.
const (
	// MaxVoters is the largest voter set.
	MaxVoters = 256
	// MaxVoterKey is the largest public key, proof or signature of a voter, in bytes.
	MaxVoterKey = 256
)

// A Voter is a gateway that takes part in agreement, by its public keys.
type Voter struct {
	Name       string
	DataCenter DataCenter
	// PublicKey is the Ed25519 key of what the voter says by itself.
	PublicKey []byte
	// SignatureKey is the key for blocks where the set's scheme has keys of its
	// own, SignatureProof the scheme's proof that the voter holds its private part.
	SignatureKey, SignatureProof []byte
	// Proof is the voter's own signature over its name and keys (rpc.ProveVoter):
	// a key that the set before did not have comes with it.
	Proof []byte
}

// A VoterSet is who decides in an epoch, and how many of them have to.
type VoterSet struct {
	Epoch uint64
	// Unavailable (u) voters may be away, Lying (r) of them may lie; the voters
	// number 2u + r + 1.
	Unavailable, Lying int
	// Scheme names how their signatures are combined.
	Scheme string
	Voters []Voter
}

// Quorum is how many voters have to sign.
func (s *VoterSet) Quorum() int { return len(s.Voters) - s.Unavailable }

// Voter returns a voter by its gateway's name.
func (s *VoterSet) Voter(name string) (Voter, bool) {
	for _, v := range s.Voters {
		if v.Name == name {
			return v, true
		}
	}
	return Voter{}, false
}

// Names are the voters' names in the set's order.
func (s *VoterSet) Names() (out []string) {
	for _, v := range s.Voters {
		out = append(out, v.Name)
	}
	return out
}

// Survives reports whether a quorum is left when any single data center is
// lost; else it names one whose loss leaves too few.
func (s *VoterSet) Survives() (lost DataCenter, ok bool) {
	in := map[DataCenter]int{}
	for _, v := range s.Voters {
		in[v.DataCenter]++
	}
	for _, v := range s.Voters {
		if len(s.Voters)-in[v.DataCenter] < s.Quorum() {
			return v.DataCenter, false
		}
	}
	return "", true
}

// Check returns nil when the set can decide: it is numbered, its numbers fit and
// no name or key stands twice. Proofs and the scheme are for others to check.
func (s *VoterSet) Check() error {
	n, u, r := len(s.Voters), s.Unavailable, s.Lying
	switch {
	case s.Epoch == 0:
		return fmt.Errorf("%w: a voter set has an epoch from 1 on", ErrInvalid)
	case n > MaxVoters:
		return fmt.Errorf("%w: %d voters, at most %d", ErrInvalid, n, MaxVoters)
	case u < 0 || r < 0 || r > u || n != 2*u+r+1:
		return fmt.Errorf("%w: %d voters with %d unavailable, %d of them lying: the voters must number 2u + r + 1 with r at most u. Take 1 voter (survives nothing), 3 (one away), 4 (one away or lying), 5 (two away) or 6 (two away, one of them lying)", ErrInvalid, n, u, r)
	}
	if err := CheckName("signature scheme", s.Scheme); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, v := range s.Voters {
		if err := v.Check(); err != nil {
			return err
		}
		if seen["name "+v.Name] || seen["key "+string(v.PublicKey)] || len(v.SignatureKey) > 0 && seen["key "+string(v.SignatureKey)] {
			return fmt.Errorf("%w: voter %s or one of its keys stands twice", ErrInvalid, v.Name)
		}
		seen["name "+v.Name], seen["key "+string(v.PublicKey)], seen["key "+string(v.SignatureKey)] = true, true, true
	}
	return nil
}

// Check returns nil when the voter is well formed; its proofs are for others to check.
func (v *Voter) Check() error {
	if err := CheckName("voter", v.Name); err != nil {
		return err
	}
	if err := CheckName("data center", string(v.DataCenter)); err != nil {
		return err
	}
	if len(v.PublicKey) != 32 {
		return fmt.Errorf("%w: voter %s: public key has %d bytes, want 32", ErrInvalid, v.Name, len(v.PublicKey))
	}
	for _, b := range [][]byte{v.SignatureKey, v.SignatureProof, v.Proof} {
		if len(b) > MaxVoterKey {
			return fmt.Errorf("%w: voter %s: a key or proof has %d bytes, at most %d", ErrInvalid, v.Name, len(b), MaxVoterKey)
		}
	}
	return nil
}

// A VoterChange is the next epoch's voter set: decided by the epoch before, it
// decides everything after its block.
type VoterChange struct {
	VoterSet
	// By is the operator who wants it, and whose key made Signature
	// (rpc.SignVoters): no gateway changes the voters by itself.
	By, Reason string
	Signature  []byte
}

// Check returns nil when the change is well formed; a reason is mandatory.
func (c *VoterChange) Check() error {
	if err := c.VoterSet.Check(); err != nil {
		return err
	}
	if len(c.Signature) > MaxVoterKey {
		return fmt.Errorf("%w: a signature of %d bytes", ErrInvalid, len(c.Signature))
	}
	return checkSaid("voters", c.By, c.Reason, true)
}

// Voters returns the block's change of voters, or nil.
func (b *Block) Voters() *VoterChange {
	for i := range b.Requests {
		if v := b.Requests[i].Voters; v != nil {
			return v
		}
	}
	return nil
}
