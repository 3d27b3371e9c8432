// Package identity makes and reads the keys and certificates of a cluster.
//
// An [Authority] is the keys directory of the person who runs the cluster: the
// CA with its key, the gossip keyrings and the public description of the
// cluster. A [Bundle] is a directory that holds all that one process needs, and
// nothing else.
//
// Guarantees: a Bundle that Load returned without an error is whole (key,
// certificate, CA and description fit each other), of one cluster, valid now
// and readable by its owner only; nothing is overwritten unless asked; what is
// rotated in place is replaced file by file, each atomically, so that a reader
// sees the old pair, the new one, or for a moment two that do not fit, which
// rpc.Keeper waits out.
//
// It does not guarantee that a secret was not copied elsewhere, and keeps no
// copy of a voter's key: a voter that lost it gets a new one with the next
// voter set (interlock rule 8).
package identity

import "time"

// The files of a bundle.
const (
	FileCluster       = "cluster.json"
	FileCA            = "ca.pem"
	FileCertificate   = "cert.pem"
	FileKey           = "key.pem"
	FileGossip        = "gossip.key"
	FileGossipGateway = "gossip-gateways.key"
	FileVoter         = "voter.key"
	FileVoterLost     = "voter.lost" // in its place when the key is lost

	// FileVoterSignature is there where the cluster's signature scheme has keys
	// of its own.
	FileVoterSignature = "voter-signature.key"
	FileOperator       = "operator.key"
)

// Validities and the margin for clocks that differ.
const (
	// DefaultValidity is how long a process's certificate is valid.
	DefaultValidity = 90 * 24 * time.Hour
	// DefaultCAValidity is how long a CA is valid.
	DefaultCAValidity = 10 * 365 * 24 * time.Hour
	// MinValidity is the shortest validity that is issued.
	MinValidity = time.Minute
	// ClockSkew is how far certificates reach back, for clocks that are late.
	ClockSkew = 5 * time.Minute
	// RenewWithin is how long before its end a certificate should be rotated.
	RenewWithin = 30 * 24 * time.Hour
)

// Maxima of what is read.
const (
	// MaxFile is the largest file of a bundle, in bytes.
	MaxFile = 1 << 20
	// MaxDataCenters is the largest number of data centers of a cluster.
	MaxDataCenters = 64
	// MaxGateways is the largest number of gateways of a data center.
	MaxGateways = 64
	// MaxOperators is the largest number of operators' keys, old ones included.
	MaxOperators = 1024
	// MaxKeyring is the largest number of keys in a gossip keyring.
	MaxKeyring = 8
	// GossipKeySize is the length of a gossip key in bytes (AES-256).
	GossipKeySize = 32
)
