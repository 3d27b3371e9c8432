package driver

import (
	"context"
	"time"

	"github.com/signalbox-io/signalbox"
)

// A Reckoner knows what is lost where a master's own word of what its data had
// reached is missing: at a failover of data that is replicated asynchronously.
// Optional.
type Reckoner interface {
	// Expect says what a promotion of this standby without a position would lose,
	// as far as anybody knows; nil for an instance that is no standby of somebody
	// else. It is asked after Ready, as often.
	Expect(ctx context.Context) (*ExpectedLoss, error)
	// Lost says what this instance had as master and its successor has not, from
	// when it has begun to follow until it is promoted again; nil while nobody
	// knows, and for one that was not master yet. Never blocks.
	Lost() *Loss
}

// ExpectedLoss is what a failover to a standby would lose.
type ExpectedLoss struct {
	// Known is false where the master was never seen: nobody knows then.
	Known bool
	// Bytes is how much of what the master had when it was last seen is missing
	// on the standby, Age how long ago that was. What it acknowledged after that
	// is in neither.
	Bytes uint64
	Age   time.Duration
	// Limit, where there is one: the driver refuses to promote when more is
	// missing, or when nobody knows.
	Limit *uint64
}

// Loss is what an old master had alone.
type Loss struct {
	// Term is the one that it served when it wrote that.
	Term signalbox.Term
	// Known is false where the driver cannot tell how much it is.
	Known bool
	Bytes uint64
	// Writes are the transactions among it, 0 where the driver does not count.
	Writes uint64
	// Kept says where it is kept, on the instance's machine; "" for nowhere.
	Kept string
}
