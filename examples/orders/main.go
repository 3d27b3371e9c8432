// Command orders is the example service: a small HTTP service whose
// mastership Signalbox moves. Every write is logged with instance, term and
// system-wide monotonic time, so that an oracle can judge afterwards whether
// two data centers ever served at once.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox/examples/orders/internal/shop"
)

// stopWithin bounds an orderly stop: requests still inside then are cut.
const stopWithin = 30 * time.Second

type options struct {
	listen     string
	control    string
	driver     string
	service    string
	instance   string
	dataCenter string
	writeLog   string
	bundle     string
	state      string
	gossip     string
	leave      time.Duration
}

func main() {
	opts, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	log := zerolog.New(os.Stderr).Level(zerolog.InfoLevel).With().Timestamp().Str("instance", opts.instance).Logger()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, opts, log); err != nil {
		log.Error().Err(err).Msg("orders failed")
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var opts options
	flags := flag.NewFlagSet("orders", flag.ContinueOnError)
	flags.StringVar(&opts.listen, "listen", "127.0.0.1:0", "address for requests, HTTP/1.1 and HTTP/2 without TLS")
	flags.StringVar(&opts.control, "control", "", "address for the driver contract (default: the same as --listen)")
	flags.StringVar(&opts.driver, "driver", "http", "how Signalbox drives this instance: http (an agent beside it) or library (the agent is in it)")
	flags.StringVar(&opts.bundle, "bundle", "", "library: directory that signalbox keys made for the agent in this process")
	flags.StringVar(&opts.state, "state", "", "library: directory for the instance's key and promises (default: in the bundle)")
	flags.StringVar(&opts.gossip, "gossip", "", "library: IP:port in the data center's gossip pool (default: take no part)")
	flags.StringVar(&opts.service, "service", "orders", "name of the service")
	flags.StringVar(&opts.instance, "instance", "", "name of this instance")
	flags.StringVar(&opts.dataCenter, "data-center", "", "data center of this instance")
	flags.StringVar(&opts.writeLog, "write-log", "", "file that every write is appended to, as JSON lines")
	flags.DurationVar(&opts.leave, "leave-within", 5*time.Second, "how long a master waits at SIGTERM to be stepped down before it stops anyway")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	for name, value := range map[string]string{
		"instance": opts.instance, "data-center": opts.dataCenter, "write-log": opts.writeLog,
	} {
		if value == "" {
			return opts, fmt.Errorf("--%s is missing", name)
		}
	}
	if opts.driver == "library" && opts.bundle == "" {
		return opts, errors.New("--bundle is missing: the library needs an agent's bundle (signalbox keys issue agent)")
	}
	return opts, nil
}

// run serves until ctx ends, then lets the requests inside finish. It prints
// each address it listens on, one line each, when it is ready to serve.
func run(ctx context.Context, opts options, log zerolog.Logger) error {
	writes, err := shop.OpenWriteLog(opts.writeLog, opts.service, opts.instance, opts.dataCenter)
	if err != nil {
		return err
	}
	defer writes.Close()
	driver, err := newAuthority(opts, log)
	if err != nil {
		return err
	}
	business := driver.wrap(shop.New(shop.Options{
		Instance: opts.instance, Log: writes, Term: driver.term, Live: driver.live, Logger: log,
	}).Handler())

	failed := make(chan error, 2)
	public, control := business, driver.contract
	if control != nil && opts.control == "" {
		public, control = split(control, business), nil
	}
	servers := make([]*http.Server, 0, 2)
	listen := func(what, address string, handler http.Handler) error {
		server, err := serve(what, address, handler, failed)
		if err == nil {
			servers = append(servers, server)
		}
		return err
	}
	err = listen("listening", opts.listen, public)
	if err == nil && control != nil {
		err = listen("control", opts.control, control)
	}
	if err == nil {
		select {
		case err = <-failed:
		case <-ctx.Done():
			leave(opts.leave, driver, log)
		}
	}
	return errors.Join(err, shutdown(servers, driver))
}

// serve starts a server and prints "what address" on standard output.
func serve(what, address string, handler http.Handler, failed chan<- error) (*http.Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: handler, Protocols: protocols, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve: %w", err)
		}
	}()
	fmt.Println(what, listener.Addr())
	return server, nil
}

// split serves the contract beside the business on one address.
func split(contract, business http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/signalbox/") {
			contract.ServeHTTP(w, r)
			return
		}
		business.ServeHTTP(w, r)
	})
}

// leave waits until nobody relies on this instance as master any more. When
// nobody steps it down in time it stops all the same: its agent sees it gone.
func leave(within time.Duration, driver authority, log zerolog.Logger) {
	if driver.leave == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := driver.leave(ctx); err != nil {
		log.Warn().Err(err).Str("event", "leave").Msg("stopping as master")
	}
}

func shutdown(servers []*http.Server, driver authority) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	var errs []error
	for _, server := range servers {
		errs = append(errs, server.Shutdown(ctx))
	}
	if driver.close != nil {
		errs = append(errs, driver.close(ctx))
	}
	return errors.Join(errs...)
}
