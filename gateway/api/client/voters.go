package client

import (
	"context"

	"github.com/signalbox-io/signalbox/gateway/api"
)

// Voters says who votes, and which gateways could.
func (c *Client) Voters(ctx context.Context) (api.Voters, error) {
	var out api.Voters
	err := c.get(ctx, "/v1/voters", nil, &out)
	return out, wrap("list the voters", err)
}

// ChangeVoters has a signed change of voters decided, or only checked.
func (c *Client) ChangeVoters(ctx context.Context, key string, request []byte, dryRun bool) (api.Voters, error) {
	var out api.Voters
	err := c.post(ctx, "/v1/voters", key, api.VotersRequest{Request: request, DryRun: dryRun}, &out)
	return out, wrap("change the voters", err)
}
