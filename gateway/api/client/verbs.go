package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/signalbox-io/signalbox/gateway/api"
)

// Services lists the services.
func (c *Client) Services(ctx context.Context) ([]api.Service, error) {
	var out api.ServiceList
	err := c.get(ctx, "/v1/services", nil, &out)
	return out.Services, wrap("list services", err)
}

// Service shows one service; ErrUnknown when there is none of that name.
func (c *Client) Service(ctx context.Context, name string) (api.Service, error) {
	var out api.Service
	err := c.get(ctx, "/v1/services/"+url.PathEscape(name), nil, &out)
	return out, wrap("show service "+name, err)
}

// Instances lists the instances of a service, or all when it is empty.
func (c *Client) Instances(ctx context.Context, service string) ([]api.Instance, error) {
	var out api.InstanceList
	err := c.get(ctx, "/v1/instances", only("service", service), &out)
	return out.Instances, wrap("list instances", err)
}

// Proxies lists the proxies, or those with a route of a service.
func (c *Client) Proxies(ctx context.Context, service string) ([]api.Proxy, error) {
	var out api.ProxyList
	err := c.get(ctx, "/v1/proxies", only("service", service), &out)
	return out.Proxies, wrap("list proxies", err)
}

// Plan says what a switch would do.
func (c *Client) Plan(ctx context.Context, r api.SwitchRequest) (api.Plan, error) {
	query := url.Values{"to": {r.To}}
	if r.Expect != "" {
		query.Set("expect", r.Expect)
	}
	if r.HoldBudgetMS != 0 {
		query.Set("hold_budget_ms", strconv.FormatInt(r.HoldBudgetMS, 10))
	}
	if r.AllowLateProxies {
		query.Set("allow_late_proxies", "true")
	}
	if r.BreakGlass != "" {
		query.Set("break_glass", "true")
	}
	var out api.Plan
	err := c.get(ctx, "/v1/services/"+url.PathEscape(r.Service)+"/plan", query, &out)
	return out, wrap("plan switch of "+r.Service, err)
}

// Switch starts a handover and returns it as soon as it is agreed on. The same
// key gives the same handover however often it is asked; see NewKey.
func (c *Client) Switch(ctx context.Context, key string, r api.SwitchRequest) (api.Handover, error) {
	r.DryRun = false
	var out api.SwitchReply
	if err := c.post(ctx, "/v1/handovers", key, r, &out); err != nil {
		return api.Handover{}, wrap("switch "+r.Service, err)
	}
	if out.Handover == nil {
		return api.Handover{}, fmt.Errorf("switch %s: the gateway answered without a handover", r.Service)
	}
	return *out.Handover, nil
}

// Adopt takes over a running service whose master is in dataCenter.
func (c *Client) Adopt(ctx context.Context, key, service string, r api.AdoptRequest) (api.Handover, error) {
	var out api.Handover
	err := c.post(ctx, "/v1/services/"+url.PathEscape(service)+"/adopt", key, r, &out)
	return out, wrap("adopt "+service, err)
}

// GiveUp asks for an open handover's fallback.
func (c *Client) GiveUp(ctx context.Context, key, id string, r api.GiveUpRequest) (api.Handover, error) {
	var out api.Handover
	err := c.post(ctx, "/v1/handovers/"+url.PathEscape(id)+"/give-up", key, r, &out)
	return out, wrap("give up "+id, err)
}

// Handover returns a cutover record.
func (c *Client) Handover(ctx context.Context, id string) (api.Handover, error) {
	var out api.Handover
	err := c.get(ctx, "/v1/handovers/"+url.PathEscape(id), nil, &out)
	return out, wrap("show handover "+id, err)
}

// Handovers lists up to limit records, newest first, over as many pages as it
// takes. service is empty for all.
func (c *Client) Handovers(ctx context.Context, service string, limit int) ([]api.Handover, error) {
	list := []api.Handover{}
	query := only("service", service)
	for len(list) < limit {
		query.Set("limit", strconv.Itoa(min(limit-len(list), api.MaxPage)))
		var page api.HandoverList
		if err := c.get(ctx, "/v1/handovers", query, &page); err != nil {
			return nil, wrap("list handovers", err)
		}
		list = append(list, page.Handovers...)
		if page.Next == "" || len(page.Handovers) == 0 {
			break
		}
		query.Set("before", page.Next)
	}
	return list, nil
}

// Certificate returns a handover's certificate as signalbox verify reads it.
func (c *Client) Certificate(ctx context.Context, id string) ([]byte, error) {
	response, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/handovers/" + url.PathEscape(id) + "/certificate"})
	if err != nil {
		return nil, wrap("get certificate of "+id, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, MaxReply))
	return data, wrap("get certificate of "+id, err)
}

// Backup writes a copy of the journal of the gateway that answers. On an error
// what was written is no backup.
func (c *Client) Backup(ctx context.Context, w io.Writer) (int64, error) {
	response, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/journal/backup"})
	if err != nil {
		return 0, wrap("back up journal", err)
	}
	defer response.Body.Close()
	n, err := io.Copy(w, response.Body)
	return n, wrap("back up journal", err)
}

// Health asks the gateway that answers how it is.
func (c *Client) Health(ctx context.Context) (api.Health, error) {
	var out api.Health
	err := c.get(ctx, "/v1/healthz", nil, &out)
	return out, wrap("ask health", err)
}

func only(name, value string) url.Values {
	if value == "" {
		return url.Values{}
	}
	return url.Values{name: {value}}
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
