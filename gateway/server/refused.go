package server

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"google.golang.org/grpc/credentials"
)

// refusals counts what was refused, by who it should have been (agent, gateway
// or connection) and why. Both labels are words of ours.
type refusals struct{ counter *prometheus.CounterVec }

func newRefusals(reg prometheus.Registerer) refusals {
	r := refusals{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signalbox_refused_total",
		Help: "What was refused of agents, gateways and connections, by kind and reason.",
	}, []string{"kind", "reason"})}
	reg.MustRegister(r.counter)
	return r
}

func (r refusals) of(kind string) func(reason string) {
	return func(reason string) { r.counter.WithLabelValues(kind, reason).Inc() }
}

// handshakes counts and logs connections that did not prove who they are.
type handshakes struct {
	credentials.TransportCredentials
	refused func(reason string)
	logger  zerolog.Logger
}

// handshakeLines bounds what strangers can have logged per minute.
const handshakeLines = 20

func watchHandshakes(c credentials.TransportCredentials, refused func(string), logger zerolog.Logger) credentials.TransportCredentials {
	return &handshakes{c, refused, logger.Sample(&zerolog.BurstSampler{Burst: handshakeLines, Period: time.Minute})}
}

// ServerHandshake implements credentials.TransportCredentials.
func (h *handshakes) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := h.TransportCredentials.ServerHandshake(conn)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		h.refused("handshake")
		h.logger.Warn().Err(err).Str("remote", conn.RemoteAddr().String()).Msg("refused connection")
	}
	return c, info, err
}

// Clone implements credentials.TransportCredentials.
func (h *handshakes) Clone() credentials.TransportCredentials {
	return &handshakes{h.TransportCredentials.Clone(), h.refused, h.logger}
}
