// Package signature combines the signatures of voters into one that anyone who
// holds their public keys can verify, behind a port of five methods.
//
// There are two schemes: [List], every voter's Ed25519 signature, and [Multi],
// one BLS12-381 aggregate of 48 bytes. DESIGN.md says how they work, what they
// cost and which one a cluster gets when it does not say.
//
// Guarantees: VerifyQuorum accepts only signatures of distinct voters of the
// set over exactly the message, at least a quorum of them; the scheme's name
// travels with the signature. It does not know what a message means; the caller
// separates domains (rpc.SigningInput).
package signature

import (
	"fmt"

	"github.com/signalbox-io/signalbox"
)

// MaxVoters is the largest voter set.
const MaxVoters = 256

// A Voter is one member of the voter set, by its public key.
type Voter struct {
	Name string
	// PublicKey is the key that the scheme verifies with.
	PublicKey []byte
	// Proof shows that whoever enrolled the public key holds the private one;
	// only Multi has it, and demands it.
	Proof []byte
}

// A Share is one voter's signature.
type Share struct {
	// Voter is the index in the voter set.
	Voter     int
	Signature []byte
}

// Scheme is the port: one way of signing, combining and verifying.
type Scheme interface {
	// Name is the scheme's name in certificates.
	Name() string
	// Sign returns this voter's share over message; ErrNotConfigured when the
	// process holds no voter's key.
	Sign(message []byte) (Share, error)
	// Combine joins shares into one signature; it fails when they are fewer
	// than a quorum of distinct voters (ErrUnavailable) or one has an impossible
	// form (ErrInvalid). Of a voter's shares the last one counts. Shares are not
	// verified here: VerifyQuorum tells whether all were good.
	Combine(shares []Share) ([]byte, error)
	// VerifyShare checks one share by itself: ErrInvalid when its voter or form
	// is impossible, ErrUntrusted when the voter did not sign message. It is
	// what finds the bad share after a combination failed to verify.
	VerifyShare(message []byte, share Share) error
	// VerifyQuorum checks a combined signature (see rpc.QuorumVerifier).
	VerifyQuorum(scheme string, message, signature []byte) error
}

// Quorum returns how many of n voters have to sign when u may be unavailable.
func Quorum(n, u int) int { return n - u }

// Signers returns the indices of those of n voters that a combined signature
// names; every scheme's begins with their bitmap. It verifies nothing;
// VerifyQuorum does.
func Signers(n int, combined []byte) (voters []int) {
	for i := range n {
		if i/8 < len(combined) && combined[i/8]&(1<<(i%8)) != 0 {
			voters = append(voters, i)
		}
	}
	return voters
}

// bitmapSize is the length in bytes of a bitmap of n voters.
func bitmapSize(n int) int { return (n + 7) / 8 }

// signersOf reads the bitmap that a combined signature of n voters begins with:
// the signers and what follows. It refuses a bitmap that is cut, names voters
// that are not there, or fewer than a quorum.
func signersOf(n, quorum int, combined []byte) (signers []int, rest []byte, err error) {
	size := bitmapSize(n)
	if len(combined) < size {
		return nil, nil, fmt.Errorf("%w: quorum signature has %d bytes", signalbox.ErrInvalid, len(combined))
	}
	if n%8 != 0 && combined[size-1]>>(n%8) != 0 {
		return nil, nil, fmt.Errorf("%w: quorum signature's bitmap names signers that are not there", signalbox.ErrInvalid)
	}
	if signers = Signers(n, combined); len(signers) < quorum {
		return nil, nil, fmt.Errorf("%w: %d of %d voters signed, %d are needed", signalbox.ErrUntrusted, len(signers), n, quorum)
	}
	return signers, combined[size:], nil
}

// gather puts shares in the voters' order after a bitmap of who signed. check
// says whether a share has a possible form.
func gather(n, quorum int, shares []Share, check func(Share) error) (bitmap []byte, byVoter [][]byte, err error) {
	bitmap, byVoter = make([]byte, bitmapSize(n)), make([][]byte, n)
	count := 0
	for _, s := range shares {
		if err := check(s); err != nil {
			return nil, nil, err
		}
		if byVoter[s.Voter] == nil {
			count++
		}
		byVoter[s.Voter] = s.Signature
		bitmap[s.Voter/8] |= 1 << (s.Voter % 8)
	}
	if count < quorum {
		return nil, nil, fmt.Errorf("%w: %d of %d voters signed, %d are needed", signalbox.ErrUnavailable, count, n, quorum)
	}
	return bitmap, byVoter, nil
}

// checkSet refuses voter sets that no scheme can have: of an impossible size,
// without a majority, or with a key that has the wrong length or stands twice.
func checkSet(voters []Voter, quorum, keySize int) error {
	if len(voters) == 0 || len(voters) > MaxVoters {
		return fmt.Errorf("%w: %d voters, want 1 to %d", signalbox.ErrInvalid, len(voters), MaxVoters)
	}
	if quorum*2 <= len(voters) || quorum > len(voters) {
		return fmt.Errorf("%w: quorum %d of %d voters: want a majority", signalbox.ErrInvalid, quorum, len(voters))
	}
	seen := map[string]bool{}
	for _, v := range voters {
		if len(v.PublicKey) != keySize {
			return fmt.Errorf("%w: voter %s: key has %d bytes, want %d", signalbox.ErrInvalid, v.Name, len(v.PublicKey), keySize)
		}
		if seen[string(v.PublicKey)] {
			return fmt.Errorf("%w: voter %s: the same key stands twice", signalbox.ErrInvalid, v.Name)
		}
		seen[string(v.PublicKey)] = true
	}
	return nil
}

// checkShare refuses a share of a voter that is not there or of another length.
func checkShare(n, size int, s Share) error {
	if s.Voter < 0 || s.Voter >= n || len(s.Signature) != size {
		return fmt.Errorf("%w: share of voter %d", signalbox.ErrInvalid, s.Voter)
	}
	return nil
}

func notOfTheSet() error {
	return fmt.Errorf("%w: the voter key is not of the voter set", signalbox.ErrUntrusted)
}

func noKey() error {
	return fmt.Errorf("%w: this process holds no voter's key", signalbox.ErrNotConfigured)
}

func otherScheme(got, want string) error {
	return fmt.Errorf("%w: signature scheme %.40q, configured is %s", signalbox.ErrUntrusted, got, want)
}

// doesNotFit says that a combined signature does not verify; who is the voter
// it fails for where the scheme can tell.
func doesNotFit(who string) error {
	return fmt.Errorf("%w: signature of %s does not fit (another voter set, another cluster or changed bytes)", signalbox.ErrUntrusted, who)
}
