package server

import (
	"strings"
	"sync"
	"time"

	"github.com/signalbox-io/signalbox/gateway/coordinator"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// readBundleEvery is how often the bundle is read for its CAs: they change when
// somebody rotates keys.
const readBundleEvery = time.Minute

// expiries knows which certificates end when.
type expiries struct {
	keeper *rpc.Keeper
	dir    string

	mu   sync.Mutex
	read time.Time
	cas  []coordinator.Expiry
}

// list implements coordinator.Options.Expiries.
func (e *expiries) list() []coordinator.Expiry {
	out := e.authorities()
	if leaf := e.keeper.Certificate().Leaf; leaf != nil {
		out = append(out, coordinator.Expiry{What: "this gateway", Kind: "own", NotAfter: leaf.NotAfter})
	}
	for _, s := range e.keeper.Seen() {
		out = append(out, coordinator.Expiry{What: strings.TrimPrefix(s.URI().Path, "/"), Kind: "peer", NotAfter: s.NotAfter})
	}
	return out
}

func (e *expiries) authorities() []coordinator.Expiry {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := time.Now(); now.Sub(e.read) >= readBundleEvery {
		if b, err := identity.Inspect(e.dir); err == nil { // a rotation in the middle: the last ones stay
			e.read, e.cas = now, nil
			for _, ca := range b.Authorities {
				e.cas = append(e.cas, coordinator.Expiry{What: "the CA", Kind: "ca", NotAfter: ca.NotAfter})
			}
		}
	}
	return append([]coordinator.Expiry(nil), e.cas...)
}
