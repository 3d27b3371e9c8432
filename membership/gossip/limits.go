package gossip

// Everything from outside has a named maximum. Sizes are in bytes.
const (
	// KeySize is the length of every encryption key (AES-256).
	KeySize = 32
	// MaxKeys is the most keys a keyring holds at a time.
	MaxKeys = 8
	// MaxStatement is the largest statement with its signature.
	MaxStatement = 300
	// MaxDocument is the largest document.
	MaxDocument = 64 << 10
	// MaxStatementKey is the longest key that ValidateStatement may return.
	MaxStatementKey = 512
	// MaxStatements is the largest value of Options.MaxStatements.
	MaxStatements = 8192
	// MaxDocuments is the largest value of Options.MaxDocuments.
	MaxDocuments = 1024
	// MaxDocumentBytes bounds the documents that a Pool holds together.
	MaxDocumentBytes = 16 << 20
	// MaxMembers is the most members that a Pool knows at a time.
	MaxMembers = 4096
	// MaxName is the longest member name; MaxDataCenter and MaxGRPCAddress
	// bound its metadata.
	MaxName        = 128
	MaxDataCenter  = 64
	MaxGRPCAddress = 255
	// MaxLabel is the longest cluster label.
	MaxLabel = 128
	// MaxAnnounced is the most hashes in one announcement or request.
	MaxAnnounced = 16
	// MaxPacket is the largest datagram that is looked at. Members send at most
	// packetBuffer.
	MaxPacket = 2048
	// MaxStream is the largest encrypted message on a stream: the state of
	// MaxMembers members, MaxStatements statements and MaxDocuments hashes.
	MaxStream = 8 << 20
	// MaxInboundStreams is the most streams that others have open to us.
	MaxInboundStreams = 128
	// TombstonesPerLimit times a set's limit is how many forgotten keys it
	// remembers, so that a late copy is not taken for news.
	TombstonesPerLimit = 2
	// MaxFanout is the largest value of Options.Fanout.
	MaxFanout = 16
	// MaxDirect is the most gateways a new statement is sent straight to.
	MaxDirect = 32
)

const (
	packetBuffer      = 1400 // memberlist's largest datagram before encryption
	maxWants          = 256  // documents being asked for at a time
	maxHolders        = 8    // members remembered as holding one wanted document
	maxQueued         = 2048 // messages waiting for the gossip tick
	maxInbox          = 4096 // small messages waiting to be judged
	maxBodies         = 32   // documents waiting to be judged
	maxRelays         = 1024 // packets waiting to be passed on
	maxStreamsOut     = 256  // messages waiting for a stream worker
	streamWorkers     = 8
	maxPendingEvents  = 2 * MaxMembers
	wireVersion       = 1
	metaVersion       = 1
	encryptionVersion = 1  // memberlist's AES-GCM without padding
	sealOverhead      = 29 // version, nonce and tag around the plaintext
)
