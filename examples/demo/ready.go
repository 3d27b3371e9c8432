package demo

import (
	"context"
	"errors"
)

// AllReady returns nil when every gateway, instance and Envoy is there and ready.
func (s *Site) AllReady(ctx context.Context) error {
	return errors.Join(s.gatewaysReady(ctx), s.instancesKnown(ctx), s.envoysReady(ctx))
}
