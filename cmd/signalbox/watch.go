package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

func newWatchCommand(std stdio) *cobra.Command {
	var handover string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "watch [SERVICE]", Short: "Show what happens while it happens", GroupID: groupDaily,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeServices,
		Long: "Shows events as they happen, until interrupted. With --handover it shows that one from its start and ends\n" +
			"with it: exit code 0 forward, 5 reverted, 4 timed out. -o json prints one JSON document for each event.",
	}
	cmd.Flags().StringVar(&handover, "handover", "", "follow this handover to its end")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop after this long (default never)")
	output := new(outputFlag)
	cmd.Flags().VarP(&formatValue{output, []string{formatTable, formatJSON}}, "output", "o", "output: table|json")
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		if handover != "" {
			return watchHandover(ctx, std, c, handover, output)
		}
		service := ""
		if len(args) == 1 {
			service = args[0]
			if _, err := c.Service(ctx, service); err != nil {
				return err
			}
		}
		return watchEvents(ctx, std, c, service, *output == formatJSON)
	})
	return cmd
}

// watchHandover shows one handover from its beginning to its end.
func watchHandover(ctx context.Context, std stdio, c *client.Client, id string, output *outputFlag) error {
	h, err := c.Handover(ctx, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	f := newFollower(std, c, h.Service)
	defer f.listen(ctx, cancel)()
	return f.finish(ctx, h, output, func(end *api.Handover) int { return forwardOr(end, h.To, exitReverted) })
}

// watchEvents prints events until it is interrupted, which is its ordinary end.
func watchEvents(ctx context.Context, std stdio, c *client.Client, service string, asJSON bool) error {
	encoder := json.NewEncoder(std.out)
	encoder.SetEscapeHTML(false)
	err := c.Follow(ctx, client.Filter{Service: service}, func(e api.Event) error {
		if asJSON {
			return encoder.Encode(e)
		}
		if e.Kind == api.EventReset {
			return watchState(ctx, std, c, service)
		}
		phase := e.Phase
		if phase == "" {
			phase = e.Kind
		}
		_, err := fmt.Fprintln(std.out, clean(fmt.Sprintf("%s  %-12s  %-8s  %-12s  %s", e.At.UTC().Format("15:04:05.000"), e.Service, phase, e.Gateway, eventText(&e))))
		return err
	})
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// watchState prints how things stand, at the start and whenever events may have
// been missed.
func watchState(ctx context.Context, std stdio, c *client.Client, service string) error {
	services, err := c.Services(ctx)
	if err != nil {
		return nil // the stream says more; the next reset asks again
	}
	for _, s := range services {
		if service != "" && s.Name != service {
			continue
		}
		master := "no master"
		if s.Master != "" {
			master = fmt.Sprintf("master %s at term %d", s.Master, s.Term)
		}
		fmt.Fprintln(std.out, clean(fmt.Sprintf("-- %s is %s, %s", s.Name, s.State, master)))
	}
	return openHandovers(std.out, services)
}
