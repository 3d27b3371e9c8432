package client

import (
	"context"
	"fmt"
	"net/url"

	"github.com/signalbox-io/signalbox/gateway/api"
)

// Failover starts a failover, or plans it with DryRun.
func (c *Client) Failover(ctx context.Context, key string, r api.FailoverRequest) (api.FailoverReply, error) {
	var out api.FailoverReply
	if err := c.post(ctx, "/v1/failovers", key, r, &out); err != nil {
		return out, wrap("fail over "+r.Service, err)
	}
	if out.Handover == nil && out.Plan == nil {
		return out, fmt.Errorf("fail over %s: the gateway answered without a handover", r.Service)
	}
	return out, nil
}

// Missing lists the evidence that an open handover waits for.
func (c *Client) Missing(ctx context.Context, handover string) ([]api.Missing, error) {
	var out api.MissingList
	err := c.get(ctx, "/v1/handovers/"+url.PathEscape(handover)+"/missing", nil, &out)
	return out.Missing, wrap("list the missing evidence of "+handover, err)
}

// Announce announces the removal of an outstanding instance.
func (c *Client) Announce(ctx context.Context, key, service, instance, reason string) (api.Missing, error) {
	var out api.Missing
	err := c.post(ctx, "/v1/services/"+url.PathEscape(service)+"/instances/"+url.PathEscape(instance)+"/removal", key, api.RemovalRequest{Reason: reason}, &out)
	return out, wrap("announce the removal of "+instance, err)
}

// Start brings an operator's mandate to start an instance without a quorum.
func (c *Client) Start(ctx context.Context, key, service, instance string, r api.StartRequest) (api.Instance, error) {
	var out api.Instance
	err := c.post(ctx, "/v1/services/"+url.PathEscape(service)+"/instances/"+url.PathEscape(instance)+"/start", key, r, &out)
	return out, wrap("start "+instance, err)
}

// Submit brings others' evidence, in its envelope.
func (c *Client) Submit(ctx context.Context, key string, envelope []byte) (api.Submitted, error) {
	var out api.Submitted
	err := c.post(ctx, "/v1/evidence", key, api.EvidenceRequest{Envelope: envelope}, &out)
	return out, wrap("submit evidence", err)
}
