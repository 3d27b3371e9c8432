// Command load runs the load generator by hand and prints its report as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/signalbox-io/signalbox/examples/load"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	config := load.Default(2000)
	var log string
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.IntVar(&config.Rate, "rate", config.Rate, "requests per second over all targets")
	flags.DurationVar(&config.Duration, "duration", 0, "how long (default: until interrupted)")
	flags.StringVar(&config.Prefix, "prefix", config.Prefix, "prefix of request ids")
	flags.Float64Var(&config.PostFraction, "post", config.PostFraction, "fraction that writes")
	flags.Float64Var(&config.SlowFraction, "slow", config.SlowFraction, "fraction that asks for a slow answer")
	flags.DurationVar(&config.SlowFor, "slow-for", config.SlowFor, "how slow")
	flags.IntVar(&config.Connections, "connections", config.Connections, "most connections per target")
	flags.StringVar((*string)(&config.Protocol), "protocol", string(config.Protocol), "http1 or h2c")
	flags.StringVar(&log, "log", "", "file for the request log, as JSON lines")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: load [flags] [name=]http://host:port ...")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	for _, argument := range flags.Args() {
		name, url, named := strings.Cut(argument, "=")
		if !named {
			url = name
		}
		config.Targets = append(config.Targets, load.Target{Name: name, URL: url})
	}
	generator, err := load.New(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := generator.Run(ctx); err != nil {
		return err
	}
	if log != "" {
		if err := writeLog(generator, log); err != nil {
			return err
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(generator.Report(load.Window{}))
}

func writeLog(generator *load.Generator, path string) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("create load log: %w", err)
	}
	return errors.Join(generator.WriteLog(file), file.Close())
}
