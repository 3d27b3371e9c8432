package main

import (
	"context"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

func newProxyCommand(std stdio) *cobra.Command {
	return group("proxy", "Show proxies", groupDaily, newProxyListCommand(std))
}

func newProxyListCommand(std stdio) *cobra.Command {
	var service string
	cmd := &cobra.Command{
		Use: "list", Short: "List the proxies: which term each has, and what it rejected", Args: cobra.NoArgs,
		Long: "Lists the proxies with the term of each route that they acknowledged. OLDER counts requests still in flight\n" +
			"on older terms, from load reports. PROBLEM is the proxy's own words when it rejected its configuration.",
	}
	cmd.Flags().StringVar(&service, "service", "", "only this service's routes")
	output := addOutput(cmd, true)
	connect(cmd, std, func(ctx context.Context, c *client.Client, _ []string) error {
		proxies, err := c.Proxies(ctx, service)
		if err != nil {
			return err
		}
		return output.write(std.out, api.ProxyList{Proxies: proxies}, func(w io.Writer, wide bool) error {
			return proxyTable(w, proxies, wide)
		})
	})
	return cmd
}

func proxyTable(w io.Writer, proxies []api.Proxy, wide bool) error {
	heading := []string{"PROXY", "DATA CENTER", "GATEWAY", "CONNECTED", "SERVICE", "TERM", "PENDING", "OLDER", "PROBLEM"}
	if wide {
		heading = slices.Insert(heading, 4, "SINCE", "KIND")
	}
	var lines [][]string
	for _, p := range proxies {
		routes := p.Routes
		if len(routes) == 0 {
			routes = []api.ProxyRoute{{}}
		}
		for _, r := range routes {
			older, pending := "", ""
			if r.Older != nil {
				older = number(*r.Older)
			}
			if r.Pending != 0 {
				pending = number(r.Pending)
			}
			cells := []string{p.ID, p.DataCenter, p.Gateway, yes(p.Connected), r.Service, number(r.Term), pending, older, r.Problem}
			if wide {
				cells = slices.Insert(cells, 4, moment(p.ConnectedSince), p.Kind)
			}
			lines = append(lines, cells)
		}
	}
	return table(w, heading, lines)
}
