package rpc

// Maxima for everything that comes from outside, in bytes unless said.
const (
	// MaxStatement is the largest signed statement with its envelope: it has
	// to fit a gossip packet beside others.
	MaxStatement = 300
	// MaxEvidence is the largest evidence with its signatures: others' evidence
	// carries those of several, and a reason.
	MaxEvidence = 1280
	// MaxBlock is the largest block with its quorum signature.
	MaxBlock = 1 << 20
	// MaxCertificate is the largest certificate.
	MaxCertificate = 1 << 20
	// MaxEnrollment is the largest enrollment proof.
	MaxEnrollment = 8 << 10
	// MaxMandate is the largest operator's signed order, with its certificate.
	MaxMandate = 8 << 10
	// MaxRequests is the largest number of requests in a block.
	MaxRequests = 256
	// MaxSnapshot is the largest snapshot with everything that verifies it.
	MaxSnapshot = 128 << 20
	// MaxState is the largest state that a snapshot agrees on.
	MaxState = 64 << 20
	// MaxMessage is the largest gRPC message that a Signalbox process accepts.
	MaxMessage = 2 << 20
)
