package rpc

import (
	"crypto/x509"
	"slices"
	"strings"
	"time"
)

// maxSeen is how many certificates of others a Keeper remembers.
const maxSeen = 4096

// A Seen is the certificate that somebody presented last.
type Seen struct {
	Principal
	NotAfter time.Time
}

// note remembers when a certificate that was accepted ends. It is called with
// the certificate of every connection, so it only keeps a map.
func (k *Keeper) note(p Principal, leaf *x509.Certificate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.seen == nil {
		k.seen = map[Principal]time.Time{}
	}
	if _, known := k.seen[p]; !known && len(k.seen) >= maxSeen {
		return
	}
	k.seen[p] = leaf.NotAfter
}

// Seen lists whose certificates were accepted here, by name, with the end of
// what each presented last. Who stays connected may have a newer one since.
func (k *Keeper) Seen() []Seen {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]Seen, 0, len(k.seen))
	for p, end := range k.seen {
		out = append(out, Seen{p, end})
	}
	slices.SortFunc(out, func(a, b Seen) int { return strings.Compare(a.String(), b.String()) })
	return out
}
