package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/rpc/ports"
)

// scriptPatience bounds what a script waits for.
const scriptPatience = 90 * time.Second

// addresses is the script's command
//
//	addresses NAME...
//
// It sets each environment variable to an address of 127.0.0.1 for a gateway.
func addresses(ts *testscript.TestScript, _ bool, args []string) {
	block, err := ports.Take()
	ts.Check(err)
	ts.Defer(block.Close)
	for _, name := range args {
		port, err := block.Ports(identity.PortsPerGateway)
		ts.Check(err)
		ts.Setenv(name, fmt.Sprintf("127.0.0.1:%d", port))
	}
}

// awaits is the script's command
//
//	awaits PATTERN signalbox ARGUMENT...
//
// It runs signalbox again and again until it prints what matches the pattern.
func awaits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := regexp.Compile(args[0])
	ts.Check(err)
	end := time.After(scriptPatience)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if want.MatchString(out) {
			return
		}
		select {
		case <-again.C:
		case <-end:
			ts.Fatalf("waited in vain for %q: %v\n%s", args[0], err, out)
		}
	}
}

// changeTwice is the script's command
//
//	twice BUNDLE VOTER
//
// It gives a voter a new key by one signed order, brought twice: the second time it
// is a conflict that says what to do.
func changeTwice(ts *testscript.TestScript, _ bool, args []string) {
	b, err := identity.Load(ts.MkAbs(args[0]))
	ts.Check(err)
	keeper, err := b.Keeper()
	ts.Check(err)
	c, err := client.New(client.Options{Gateways: (&connection{}).addresses(b), TLS: keeper.Client(rpc.RoleGateway)})
	ts.Check(err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	want := votersChange{replace: args[1:], unavailable: -1, lying: -1, reason: "once"}
	var change *signalbox.VoterChange
	for err = signalbox.ErrNotReady; err != nil && ctx.Err() == nil; { // gateways answer late on a busy machine
		var now api.Voters
		if now, err = c.Voters(ctx); err == nil {
			change, err = want.of(&now)
		}
	}
	ts.Check(err)
	change.By = b.Self.Name
	ts.Check(rpc.SignVoters(b.Cluster.Name, change, b.Operator))
	raw, err := rpc.EncodeRequest(&signalbox.Request{Voters: change})
	ts.Check(err)
	for err = signalbox.ErrUnavailable; err != nil && !errors.Is(err, signalbox.ErrConflict) && ctx.Err() == nil; {
		_, err = c.ChangeVoters(ctx, client.NewKey(), raw, false)
	}
	_, err = c.ChangeVoters(ctx, client.NewKey(), raw, false)
	if !errors.Is(err, signalbox.ErrConflict) || !strings.Contains(fmt.Sprint(err), "ask again: signalbox gateway voters list") {
		ts.Fatalf("the order a second time: %v", err)
	}
}
