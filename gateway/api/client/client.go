// Package client speaks to the gateways' REST API: it tries the next gateway
// when one is down, repeats orders safely, and follows events across gateways.
//
// Guarantees: an order is sent with one Idempotency-Key however often it is
// repeated; errors wrap the root package's sentinels as the gateway decided
// them (a *api.Problem is in the chain); nothing that a gateway sends is read
// without a maximum. It does not guarantee that what one gateway shows another
// shows too at the same moment.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
)

const (
	// MaxReply is the largest answer that is read, in bytes.
	MaxReply = 16 << 20
	// MaxGateways is how many gateways are tried at most.
	MaxGateways = 64
	// connectTimeout bounds connecting to one gateway, answerTimeout one
	// answer: a little more than the gateway gives itself.
	connectTimeout = 2 * time.Second
	answerTimeout  = api.RequestTimeout + 2*time.Second
)

// Options are what New needs.
type Options struct {
	// Gateways are the gateways' API addresses, host:port, in the order in
	// which they are tried.
	Gateways []string
	// TLS presents an operator's or gateway's certificate and verifies that
	// the server is a gateway of the cluster: rpc.Keeper.Client makes it.
	TLS *tls.Config
	// Notice is told, in words, when a gateway is left for the next; may be
	// nil.
	Notice func(string)
}

// A Client speaks to one gateway at a time and stays with the one that
// answered. Safe for concurrent use.
type Client struct {
	gateways []string
	http     *http.Client
	notice   func(string)

	mu   sync.Mutex
	next int // the gateway to try first
}

// New returns a client; it connects to nobody yet.
func New(o Options) (*Client, error) {
	if len(o.Gateways) == 0 || len(o.Gateways) > MaxGateways {
		return nil, fmt.Errorf("%w: %d gateways to ask: give 1 to %d with --gateway host:port", signalbox.ErrInvalid, len(o.Gateways), MaxGateways)
	}
	for _, g := range o.Gateways {
		if host, port, err := net.SplitHostPort(g); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("%w: gateway %q: write host:port, the gateway's api address", signalbox.ErrInvalid, g)
		}
	}
	if o.Notice == nil {
		o.Notice = func(string) {}
	}
	transport := &http.Transport{
		TLSClientConfig: o.TLS, TLSHandshakeTimeout: connectTimeout, ResponseHeaderTimeout: answerTimeout,
		DialContext:            (&net.Dialer{Timeout: connectTimeout}).DialContext,
		MaxResponseHeaderBytes: api.MaxHeader, IdleConnTimeout: time.Minute,
	}
	return &Client{gateways: o.Gateways, http: &http.Client{Transport: transport}, notice: o.Notice}, nil
}

// Close drops the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// A call is one request, repeatable.
type call struct {
	method, path string
	query        url.Values
	body         any
	header       http.Header
}

// do asks one gateway after the other until one answers. Answers that say "ask
// elsewhere" (busy, unavailable) count as none while others are left.
func (c *Client) do(ctx context.Context, k call) (*http.Response, error) {
	var failures []string
	var said error // what a gateway answered, if any did
	sent := false  // whether one may have acted and not answered
	for range c.gateways {
		gateway := c.first()
		response, err := c.ask(ctx, gateway, k)
		if err == nil {
			return response, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("ask gateway %s: %w", gateway, ctx.Err())
		}
		if elsewhere, answered := askElsewhere(err); answered && !elsewhere {
			return nil, err
		} else if answered {
			said = err
		} else {
			sent = sent || !errors.As(err, new(unsentError))
		}
		failures = append(failures, fmt.Sprintf("%s: %v", gateway, err))
		c.leave(gateway, err)
	}
	if said != nil && (!sent || errors.Is(said, signalbox.ErrUnavailable)) {
		return nil, said
	}
	err := fmt.Errorf("no gateway answers (%s): check that they run and that --gateway or the bundle's cluster.json names their api addresses", strings.Join(failures, "; "))
	if k.method == http.MethodPost && sent {
		err = fmt.Errorf("%w: %w; the order may have arrived: look with signalbox status before ordering again", signalbox.ErrUnavailable, err)
	}
	return nil, err
}

// askElsewhere says whether err is a gateway's answer, and if so whether another
// gateway may answer better.
func askElsewhere(err error) (elsewhere, answered bool) {
	var p *api.Problem
	if !errors.As(err, &p) {
		return false, false
	}
	return p.Code == api.CodeBusy || p.Code == api.CodeUnavailable, true
}

func (c *Client) first() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gateways[c.next%len(c.gateways)]
}

// leave makes the next gateway the first, unless another call did already.
func (c *Client) leave(gateway string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gateways[c.next%len(c.gateways)] != gateway {
		return
	}
	c.next++
	if len(c.gateways) > 1 {
		c.notice(fmt.Sprintf("gateway %s: %v; asking %s", gateway, err, c.gateways[c.next%len(c.gateways)]))
	}
}

// ask sends the request to one gateway. An error is a *api.Problem or the
// network's.
func (c *Client) ask(ctx context.Context, gateway string, k call) (*http.Response, error) {
	var body io.Reader
	if k.body != nil {
		data, err := json.Marshal(k.body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	target := url.URL{Scheme: "https", Host: gateway, Path: k.path, RawQuery: k.query.Encode()}
	var wrote atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }})
	request, err := http.NewRequestWithContext(ctx, k.method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	for name, values := range k.header {
		request.Header[name] = values
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		if !wrote.Load() || rejected(err) {
			return nil, unsentError{plain(err)}
		}
		return nil, plain(err)
	}
	if response.StatusCode < 300 {
		return response, nil
	}
	defer response.Body.Close()
	return nil, readProblem(response)
}

func readProblem(response *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(response.Body, MaxReply))
	var p api.Problem
	if err != nil || json.Unmarshal(data, &p) != nil || p.Code == "" {
		return fmt.Errorf("the gateway answered %s without saying why: is this its api address?", response.Status)
	}
	return &p
}

// unsentError is a failure in which the request surely was not acted upon.
type unsentError struct{ error }

// Unwrap returns the network's error.
func (e unsentError) Unwrap() error { return e.error }

// rejected reports whether the server ended the TLS handshake; with TLS 1.3 the
// client hears of it after its first request only.
func rejected(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// plain drops the URL that net/http puts before its errors.
func plain(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// get reads a JSON answer into out.
func (c *Client) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.read(ctx, call{method: http.MethodGet, path: path, query: query}, out)
}

// post sends an order; the key makes it safe to repeat at the next gateway.
func (c *Client) post(ctx context.Context, path, key string, body, out any) error {
	return c.read(ctx, call{method: http.MethodPost, path: path, body: body, header: http.Header{"Idempotency-Key": {key}}}, out)
}

func (c *Client) read(ctx context.Context, k call, out any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(len(c.gateways))*(connectTimeout+answerTimeout))
	defer cancel()
	response, err := c.do(ctx, k)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, MaxReply+1))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if len(data) > MaxReply {
		return fmt.Errorf("read answer: %w: more than %d bytes", signalbox.ErrInvalid, MaxReply)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read answer of %s: %w (is the gateway of another version?)", k.path, err)
	}
	return nil
}

// NewKey returns a fresh Idempotency-Key.
func NewKey() string { return rand.Text() }
