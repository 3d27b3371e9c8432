package server

import (
	"github.com/signalbox-io/signalbox/gateway/coordinator"
	"github.com/signalbox-io/signalbox/membership/signature"
)

// witness is this gateway's part in others' evidence.
func (s *Server) witness(scheme signature.Scheme) coordinator.Witness {
	return coordinator.Witness{Scheme: scheme, Epoch: s.opt.Cluster.Epoch, Key: s.opt.Bundle.Voter}
}
