//go:build !linux

package agent

import (
	"context"
	"net"
	"time"
)

// dial connects to a gateway so that a host that is gone is noticed within about
// three seconds. gRPC's own keepalive does not go below ten.
func dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{
		Timeout:         2 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2},
	}
	return d.DialContext(ctx, "tcp", address)
}
