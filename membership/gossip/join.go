package gossip

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// MaxSeeds is the most addresses that a Pool tries to join.
const MaxSeeds = 256

// seeds are the addresses that a Pool keeps trying to have among its members,
// which also heals a pool that fell apart.
type seeds struct {
	wake chan struct{}

	mu        sync.Mutex
	addresses []string
	stopped   bool
}

func newSeeds(addresses []string) *seeds {
	s := &seeds{wake: make(chan struct{}, 1)}
	s.add(addresses)
	return s
}

func (s *seeds) add(addresses []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range addresses {
		if !slices.Contains(s.addresses, a) && len(s.addresses) < MaxSeeds {
			s.addresses = append(s.addresses, a)
		}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *seeds) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	return slices.Clone(s.addresses)
}

func (s *seeds) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

// Join adds seeds (host:port) and tries them once, now. An error says that not
// one of them could be reached yet; the Pool goes on trying all of them in the
// background until Close.
func (p *Pool) Join(addresses []string) error {
	if p.closed.Load() {
		return ErrClosed
	}
	for _, a := range addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("join gossip pool %s: %w", p.opts.Pool, err)
		}
	}
	p.seeds.add(addresses)
	joined, errs := 0, []error(nil)
	for _, a := range addresses {
		if err := p.joinSeed(a); err != nil {
			errs = append(errs, err)
			continue
		}
		joined++
	}
	if joined == 0 && len(errs) > 0 {
		return fmt.Errorf("join gossip pool %s: %w", p.opts.Pool, errors.Join(errs...))
	}
	return nil
}

// joinSeed exchanges the full state with a seed, unless it is a member already
// or this member itself.
func (p *Pool) joinSeed(seed string) error {
	addresses, err := p.resolve(seed)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range addresses {
		if p.isSelf(a) || p.presence.hasAddress(a.String()) {
			return nil
		}
		if _, err := p.library.Join([]string{a.String()}); err != nil {
			errs = append(errs, err)
			continue
		}
		return nil
	}
	return errors.Join(errs...)
}

// resolve looks names up here: memberlist would ask the name server for "any"
// record over TCP first, without a way to interrupt it.
func (p *Pool) resolve(seed string) ([]netip.AddrPort, error) {
	if a, err := netip.ParseAddrPort(seed); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}, nil
	}
	host, service, err := net.SplitHostPort(seed)
	if err != nil {
		return nil, fmt.Errorf("resolve seed: %w", err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("resolve seed %s: bad port", seed)
	}
	ips, err := net.DefaultResolver.LookupNetIP(p.ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve seed: %w", err)
	}
	addresses := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addresses[i] = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	}
	return addresses, nil
}

// keepJoined joins the seeds that are not among the members, again and again:
// soon while one is missing, then ever more slowly.
func (p *Pool) keepJoined() {
	wait := p.opts.RejoinMin
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.seeds.wake:
			wait = p.opts.RejoinMin
		case <-timer.C:
			for _, seed := range p.seeds.list() {
				if p.ctx.Err() != nil {
					return
				}
				if err := p.joinSeed(seed); err != nil {
					p.bounded.Debug().Err(err).Str("seed", seed).Msg("seed not joined yet")
				}
			}
			wait = min(2*wait, p.opts.RejoinMax)
		}
		// Members that start together must not try together for ever.
		timer.Reset(wait/2 + rand.N(wait/2+1))
	}
}
