package client

import (
	"context"
	"fmt"
	"net/url"

	"github.com/signalbox-io/signalbox/gateway/api"
)

// Rules shows a service's safety rules.
func (c *Client) Rules(ctx context.Context, service string) (api.ServiceRules, error) {
	var out api.ServiceRules
	err := c.get(ctx, "/v1/services/"+url.PathEscape(service)+"/rules", nil, &out)
	return out, wrap("show rules of "+service, err)
}

// Pause keeps a service where it is for a time.
func (c *Client) Pause(ctx context.Context, key, service string, r api.PauseRequest) (api.ServiceRules, error) {
	var out api.ServiceRules
	err := c.post(ctx, "/v1/services/"+url.PathEscape(service)+"/pause", key, r, &out)
	return out, wrap("pause "+service, err)
}

// Resume ends a service's pause.
func (c *Client) Resume(ctx context.Context, key, service string, r api.ReasonRequest) (api.ServiceRules, error) {
	var out api.ServiceRules
	err := c.post(ctx, "/v1/services/"+url.PathEscape(service)+"/resume", key, r, &out)
	return out, wrap("resume "+service, err)
}

// Approve approves an order that waits; the reply has the handover when it began.
func (c *Client) Approve(ctx context.Context, key, id string, r api.ReasonRequest) (api.ApproveReply, error) {
	var out api.ApproveReply
	err := c.post(ctx, "/v1/handovers/"+url.PathEscape(id)+"/approve", key, r, &out)
	return out, wrap("approve "+id, err)
}

// Revert takes a handover back.
func (c *Client) Revert(ctx context.Context, key, id string, r api.RevertRequest) (api.RevertReply, error) {
	var out api.RevertReply
	err := c.post(ctx, "/v1/handovers/"+url.PathEscape(id)+"/revert", key, r, &out)
	return out, wrap("revert "+id, err)
}

// Failback moves a service back to where it was before its last move; with
// DryRun the reply has the plan, else the handover.
func (c *Client) Failback(ctx context.Context, key, service string, r api.FailbackRequest) (api.SwitchReply, error) {
	var out api.SwitchReply
	err := c.post(ctx, "/v1/services/"+url.PathEscape(service)+"/failback", key, r, &out)
	if err == nil && out.Plan == nil && out.Handover == nil {
		err = fmt.Errorf("the gateway answered without a plan or handover")
	}
	return out, wrap("failback of "+service, err)
}

// Readiness says whether services could be moved now; all when service is empty.
func (c *Client) Readiness(ctx context.Context, service string) (api.Readiness, error) {
	var out api.Readiness
	err := c.get(ctx, "/v1/readiness", only("service", service), &out)
	return out, wrap("look at readiness", err)
}

// Evacuation plans to move all services out of a data center; to is empty for
// the best one of each.
func (c *Client) Evacuation(ctx context.Context, dc, to string) (api.Evacuation, error) {
	var out api.Evacuation
	err := c.get(ctx, "/v1/data-centers/"+url.PathEscape(dc)+"/evacuation", only("to", to), &out)
	return out, wrap("plan evacuation of "+dc, err)
}
