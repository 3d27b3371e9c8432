package gossip

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// Hash names a document: the SHA-256 of its bytes.
type Hash [sha256.Size]byte

// HashOf returns the Hash of a document's bytes.
func HashOf(document []byte) Hash { return sha256.Sum256(document) }

// String returns the hash in lowercase hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// kind is the second byte of every message; path, the third, says how it came.
type kind byte

const (
	kindStatement kind = 1 + iota // a signed statement, verbatim
	kindAnnounce                  // the sender holds these documents
	kindRequest                   // the sender wants these documents
	kindDocument                  // a signed document, verbatim
)

// path is how a statement travelled on its last step. It is the sender's claim
// and only ever a metric.
type path byte

const (
	pathDirect path = 1 + iota // from its author, by packet or stream
	pathRelay                  // passed on at first receipt
	pathTick                   // memberlist's gossip tick
	pathSync                   // push-pull
)

func (p path) String() string {
	switch p {
	case pathDirect:
		return "direct"
	case pathRelay:
		return "relay"
	case pathTick:
		return "tick"
	case pathSync:
		return "sync"
	default:
		return "unknown"
	}
}

const messageHeader = 3

var (
	errTruncated = errors.New("truncated")
	errTrailing  = errors.New("trailing bytes")
	errVersion   = errors.New("unknown version")
	errKind      = errors.New("unknown kind")
	errSize      = errors.New("size out of bounds")
	errName      = errors.New("bad member name")
)

// message is one decoded message; its slices alias the buffer it came from.
type message struct {
	kind   kind
	path   path
	raw    []byte // statement, document
	sender string // announce, request
	hashes []Hash // announce, request
}

func encodeRaw(k kind, p path, raw []byte) []byte {
	b := make([]byte, 0, messageHeader+len(raw))
	b = append(b, wireVersion, byte(k), byte(p))
	return append(b, raw...)
}

func encodeHashes(k kind, sender string, hashes []Hash) []byte {
	b := make([]byte, 0, messageHeader+2+len(sender)+len(hashes)*sha256.Size)
	b = append(b, wireVersion, byte(k), 0, byte(len(sender)))
	b = append(b, sender...)
	b = append(b, byte(len(hashes)))
	for i := range hashes {
		b = append(b, hashes[i][:]...)
	}
	return b
}

// decodeMessage reads one message. It never allocates more than its input.
func decodeMessage(b []byte) (message, error) {
	if len(b) < messageHeader {
		return message{}, errTruncated
	}
	if b[0] != wireVersion {
		return message{}, errVersion
	}
	m := message{kind: kind(b[1]), path: path(b[2])}
	rest := b[messageHeader:]
	switch m.kind {
	case kindStatement, kindDocument:
		limit := MaxStatement
		if m.kind == kindDocument {
			limit = MaxDocument
		}
		if len(rest) == 0 || len(rest) > limit {
			return message{}, errSize
		}
		m.raw = rest
		return m, nil
	case kindAnnounce, kindRequest:
		var err error
		if m.sender, rest, err = readName(rest); err != nil {
			return message{}, err
		}
		if len(rest) == 0 {
			return message{}, errTruncated
		}
		count := int(rest[0])
		if count == 0 || count > MaxAnnounced {
			return message{}, errSize
		}
		m.hashes, rest, err = readHashes(rest[1:], count)
		if err == nil && len(rest) != 0 {
			err = errTrailing
		}
		return m, err
	default:
		return message{}, errKind
	}
}

// state is what push-pull carries: all statements, and the hashes of all
// documents. The sender's name says whom to ask for a document.
type state struct {
	sender     string
	statements [][]byte
	hashes     []Hash
}

func (s state) encode() []byte {
	size := 6 + len(s.sender) + len(s.hashes)*sha256.Size
	for _, raw := range s.statements {
		size += 2 + len(raw)
	}
	b := make([]byte, 0, size)
	b = append(b, wireVersion, byte(len(s.sender)))
	b = append(b, s.sender...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.statements)))
	for _, raw := range s.statements {
		b = binary.BigEndian.AppendUint16(b, uint16(len(raw)))
		b = append(b, raw...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.hashes)))
	for i := range s.hashes {
		b = append(b, s.hashes[i][:]...)
	}
	return b
}

// decodeState reads a push-pull state; one that is malformed anywhere is
// refused as a whole.
func decodeState(b []byte) (s state, err error) {
	if len(b) == 0 {
		return s, errTruncated
	}
	if b[0] != wireVersion {
		return s, errVersion
	}
	if s.sender, b, err = readName(b[1:]); err != nil {
		return s, err
	}
	count, b, err := readCount(b, MaxStatements)
	if err != nil {
		return s, fmt.Errorf("statements: %w", err)
	}
	for range count {
		var size int
		if size, b, err = readCount(b, MaxStatement); err != nil {
			return s, fmt.Errorf("statement: %w", err)
		}
		if size == 0 {
			return s, errSize
		}
		if len(b) < size {
			return s, errTruncated
		}
		s.statements = append(s.statements, b[:size:size])
		b = b[size:]
	}
	if count, b, err = readCount(b, MaxDocuments); err != nil {
		return s, fmt.Errorf("documents: %w", err)
	}
	if s.hashes, b, err = readHashes(b, count); err == nil && len(b) != 0 {
		err = errTrailing
	}
	return s, err
}

func readName(b []byte) (string, []byte, error) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return "", nil, errTruncated
	}
	name := string(b[1 : 1+int(b[0])])
	if checkName(name) != nil {
		return "", nil, errName
	}
	return name, b[1+len(name):], nil
}

func readCount(b []byte, limit int) (int, []byte, error) {
	if len(b) < 2 {
		return 0, nil, errTruncated
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > limit {
		return 0, nil, errSize
	}
	return n, b[2:], nil
}

func readHashes(b []byte, count int) ([]Hash, []byte, error) {
	if len(b) < count*sha256.Size {
		return nil, nil, errTruncated
	}
	hashes := make([]Hash, count)
	for i := range hashes {
		copy(hashes[i][:], b[i*sha256.Size:])
	}
	return hashes, b[count*sha256.Size:], nil
}
