package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox/examples/orders/internal/shop"
)

func testOptions(t *testing.T) options {
	t.Helper()
	opts, err := parse([]string{
		"--instance", "orders-east-1", "--data-center", "east",
		"--write-log", filepath.Join(t.TempDir(), "writes.jsonl"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return opts
}

// Rule: the same address serves HTTP/1.1 and HTTP/2 without TLS, requests
// beside the contract, and nothing is written before the promotion.
func TestServesBothProtocols(t *testing.T) {
	opts := testOptions(t)
	writes, err := shop.OpenWriteLog(opts.writeLog, opts.service, opts.instance, opts.dataCenter)
	if err != nil {
		t.Fatal(err)
	}
	defer writes.Close()
	driver, err := newAuthority(opts, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	business := driver.wrap(shop.New(shop.Options{Instance: opts.instance, Log: writes, Term: driver.term, Live: driver.live}).Handler())
	server := httptest.NewUnstartedServer(split(driver.contract, business))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()

	one, two := new(http.Protocols), new(http.Protocols)
	one.SetHTTP1(true)
	two.SetUnencryptedHTTP2(true)
	for major, protocols := range map[int]*http.Protocols{1: one, 2: two} {
		transport := &http.Transport{Protocols: protocols}
		defer transport.CloseIdleConnections()
		post := func(path, body string) int {
			t.Helper()
			response, err := (&http.Client{Transport: transport}).Post(server.URL+path, "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.ProtoMajor != major {
				t.Errorf("spoke HTTP/%d, want %d", response.ProtoMajor, major)
			}
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				t.Error(err)
			}
			return response.StatusCode
		}
		steps := []struct {
			path, body string
			want       int
		}{
			{"/signalbox/step-down", `{}`, 200},
			{"/orders", `{"id":"a"}`, 503},
			{"/signalbox/promote", `{"term":7}`, 200},
			{"/orders", `{"id":"a"}`, 201},
		}
		for _, step := range steps {
			if status := post(step.path, step.body); status != step.want {
				t.Errorf("HTTP/%d %s: %d, want %d", major, step.path, status, step.want)
			}
		}
	}
	data, err := os.ReadFile(opts.writeLog)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(data, []byte("\n")); n != 2 {
		t.Errorf("%d writes logged, want 2:\n%s", n, data)
	}
}

// Rule: flags that are missing or wrong are named.
func TestFlags(t *testing.T) {
	if _, err := parse([]string{"--instance", "a", "--data-center", "east"}); err == nil || !strings.Contains(err.Error(), "write-log") {
		t.Errorf("missing --write-log: %v", err)
	}
	library := []string{"--instance", "a", "--data-center", "east", "--write-log", "w", "--driver", "library"}
	if _, err := parse(library); err == nil || !strings.Contains(err.Error(), "--bundle") {
		t.Errorf("library without a bundle: %v", err)
	}
	opts := testOptions(t)
	opts.driver = "carrier-pigeon"
	if _, err := newAuthority(opts, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "carrier-pigeon") {
		t.Errorf("unknown driver: %v", err)
	}
}
