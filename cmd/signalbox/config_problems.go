package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/parser"

	"github.com/signalbox-io/signalbox"
)

// problems collects what is wrong with a configuration.
type problems []problem

func (p *problems) add(path, format string, args ...any) {
	*p = append(*p, problem{path, fmt.Sprintf(format, args...)})
}

func (p *problems) required(path, value string) {
	if value == "" {
		p.add(path, "is missing")
	}
}

// name checks a name that may be left out.
func (p *problems) name(path, value string) {
	if value == "" {
		return
	}
	if err := signalbox.CheckName("the", value); err != nil {
		p.add(path, "%q: want 1 to %d lowercase letters, digits and inner hyphens", value, signalbox.MaxName)
	}
}

func (p *problems) oneOf(path, value string, of ...string) {
	if !slices.Contains(of, value) {
		p.add(path, "%q: want one of %s", value, strings.Join(of, ", "))
	}
}

func (p *problems) ip(path, value string) {
	if _, err := netip.ParseAddr(value); err != nil {
		p.add(path, "%q: want an IP address", value)
	}
}

// address checks host:port; port 0, for any free one, is for listening only.
func (p *problems) address(path, value string) {
	host, port, err := net.SplitHostPort(value)
	if err != nil || len(host) > 253 {
		p.add(path, "%q: want host:port", value)
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		p.add(path, "%q: want a port from 0 to 65535", value)
	}
}

// endpoint checks an IP address with a port from 1 to 65535, which proxies take
// without asking a name server.
func (p *problems) endpoint(path, value string) {
	ap, err := netip.ParseAddrPort(value)
	if err != nil || ap.Port() == 0 || len(value) > signalbox.MaxAddress {
		p.add(path, "%q: want IP:port with a port from 1 to 65535", value)
	}
}

// addresses checks those that are said, and that no two are the same.
func (p *problems) addresses(path string, of map[string]*string) {
	taken := map[string]string{}
	for _, what := range sortedKeys(of) {
		value := *of[what]
		if value == "" {
			continue
		}
		p.address(path+"."+what, value)
		if before, twice := taken[value]; twice && !strings.HasSuffix(value, ":0") {
			p.add(path+"."+what, "%q is %s's address already", value, before)
		}
		taken[value] = what
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// same checks what a file may repeat of its bundle.
func (p *problems) same(path, file, bundle string) {
	if file != "" && file != bundle {
		p.add(path, "%q, but the bundle is of %q", file, bundle)
	}
}

// inFile makes one usage error of problems that were found after the file was
// read: the file is read again for their lines. It is nil without problems.
func (p problems) inFile(file string) error {
	if len(p) == 0 {
		return nil
	}
	var errs fileErrors
	data, err := os.ReadFile(file)
	for _, one := range p {
		e := &positionError{message: one.path + ": " + one.message}
		if parsed, parseErr := parser.ParseBytes(data, 0); err == nil && parseErr == nil {
			if body, bad := onlyDocument(parsed); bad == nil {
				e = one.at(body)
			}
		}
		errs = append(errs, e.in(file, data))
	}
	return usageError{errs}
}
