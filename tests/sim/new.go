package sim

import (
	"crypto/ed25519"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

// New lays out the history of a seed, with a rule switched off or none.
func New(seed uint64, off Switch) *Sim {
	s := &Sim{
		rnd: rand.New(rand.NewPCG(seed, 11)), now: epoch, known: newKnown(), off: off, lapsed: map[signalbox.Digest]string{}, Stats: map[string]int{},
	}
	s.plan = s.draw()
	s.wanted = make([]int, len(s.plan.services))
	s.oracle = oracle{terms: map[termOf]signalbox.DataCenter{}, acks: map[signalbox.Identity]signalbox.Term{}, strict: off == None}
	s.first = signalbox.VoterSet{Epoch: 1, Unavailable: s.plan.u, Lying: s.plan.r, Scheme: fake{}.Name()}
	for _, n := range s.plan.voters {
		s.first.Voters = append(s.first.Voters, everybody.voter(n, 0))
	}
	for i, n := range append(append([]string(nil), s.plan.voters...), s.plan.followers...) {
		g := &gateway{node: s.newNode(n), s: s, dc: dataCenter(n)}
		g.gw = g
		for n, of := range s.plan.services {
			g.desks = append(g.desks, &desk{gateway: g, service: of, n: n})
		}
		g.voter = &voter{name: n, bundle: i < len(s.plan.voters)}
		if g.voter.bundle {
			g.voter.disk = voterDisk{begun: true, leased: s.first.Epoch}
		}
		if g.voter.bundle || s.plan.changes > 0 {
			g.voter.clock = s.newClock()
		}
		s.gateways = append(s.gateways, g)
	}
	s.lay(s.genesis())
	for _, of := range s.plan.services {
		for _, n := range cast(of) {
			s.agents = append(s.agents, s.newAgent(n))
		}
	}
	if s.plan.liars > 0 {
		l := &liar{s: s}
		for _, i := range s.rnd.Perm(len(s.plan.voters))[:s.plan.liars] {
			s.gateways[i].voter.liar = l
			l.who = append(l.who, s.gateways[i])
		}
	}
	for _, g := range s.gateways {
		g.start()
	}
	for _, a := range s.agents {
		a.start()
	}
	return s
}

func dataCenter(name string) signalbox.DataCenter {
	return map[byte]signalbox.DataCenter{'e': east, 'w': west, 'n': "north", 's': "south"}[name[0]]
}

func (s *Sim) newAgent(name string) *agent {
	a := &agent{who: everybody.actor(name, 0), node: s.newNode(name), s: s, disk: newAgentDisk(), clock: s.newClock(), trust: s.trust()}
	a.ballot = s.seat(s.first, nil)
	a.n, a.ag = slices.Index(s.plan.services, a.Service), a
	return a
}

// draw chooses what the seed is about.
func (s *Sim) draw() plan {
	layouts := []plan{
		{voters: []string{"east-1", "west-1", "north-1"}, u: 1},
		{voters: []string{"east-1", "west-1", "north-1"}, followers: []string{"east-2", "west-2"}, u: 1},
		{voters: []string{"east-1", "west-1", "north-1", "south-1"}, u: 1, r: 1},
		{voters: []string{"east-1", "east-2", "west-1", "west-2"}, u: 1, r: 1},
		{voters: []string{"east-1"}, followers: []string{"east-2", "west-1", "west-2"}},
		{voters: []string{"east-1", "east-2", "west-1", "west-2", "north-1", "north-2"}, u: 2, r: 1},
	}
	n := s.rnd.IntN(len(layouts))
	if s.off != None {
		n %= 4
	}
	if s.off.lying() || s.off == OneLiarTooMany || s.off == OneAnswerIsEnough {
		n = 2 + n%2
	}
	if s.off.dividing() {
		n %= 2
	}
	p := layouts[n]
	p.liars = s.rnd.IntN(p.r + 1)
	if s.off == OneLiarTooMany {
		p.liars = p.r + 1
	} else if s.off.lying() || s.off == OneAnswerIsEnough {
		p.liars = p.r
	}
	p.drift = 10_000
	if s.rnd.IntN(3) == 0 || s.off.leasing() {
		p.leases = signalbox.Leases{TTL: time.Second, Drift: 50_000}
		p.drift = 50_000
		if s.off == ClocksRunApart {
			p.drift = 250_000
		}
	}
	p.faultsFor = 12 * time.Second
	p.services, p.singleton = []signalbox.Service{orders}, map[signalbox.Service]bool{}
	p.snapshots = handover.SnapshotBlocks
	if s.off == SnapshotForgets {
		p.snapshots = 4
	}
	if s.off == None {
		if s.rnd.IntN(2) == 0 {
			p.snapshots = 3 + s.rnd.Uint64N(12)
		}
		if s.rnd.IntN(3) == 0 {
			p.services = append(p.services, stock)
		}
		for _, of := range p.services {
			p.singleton[of] = s.rnd.IntN(5) == 0
		}
		if s.rnd.IntN(2) == 0 {
			p.changes = 1 + s.rnd.IntN(4)
		}
	}
	if s.off.changing() {
		p.changes = 4
	}
	if p.changes > 0 {
		s.spare(&p)
	}
	return p
}

var (
	operatorKey = keyOf("ada")
	operator    = signer("ada", operatorKey)
)

// operators are the keys by which changes of voters are signed.
func operators(name string) []ed25519.PublicKey {
	if name != "ada" {
		return nil
	}
	return []ed25519.PublicKey{operatorKey.Public().(ed25519.PublicKey)}
}

// spare adds gateways that may vote later.
func (s *Sim) spare(p *plan) {
	all := []string{"east-1", "east-2", "west-1", "west-2", "north-1", "north-2", "south-1"}
	for _, i := range s.rnd.Perm(len(all)) {
		have := slices.Contains(p.voters, all[i]) || slices.Contains(p.followers, all[i])
		if !have && (s.off.dividing() || len(p.voters)+len(p.followers) < 5 || s.rnd.IntN(3) == 0) {
			p.followers = append(p.followers, all[i])
		}
	}
}

// cast names the instances that a service begins with.
func cast(of signalbox.Service) []string {
	if of == stock {
		return []string{"e1s", "e2s", "w1s", "w2s"}
	}
	return []string{"e1", "e2", "w1", "w2"}
}

// genesis is a log in which east is master of each service at term 1, by two
// instances or a singleton's one; west has two as standbys.
func (s *Sim) genesis() []*signalbox.DecidedBlock {
	var requests []signalbox.Request
	for _, of := range s.plan.services {
		names := cast(of)
		for _, n := range names {
			requests = append(requests, everybody.actor(n, 0).admit(0))
		}
		adoption := &signalbox.Handover{
			ID: "adopt-" + string(of), Service: of, Term: 1, To: east, Allowed: signalbox.AckOnly, Leases: s.plan.leases, Singleton: s.singleton(of),
			Incoming: []signalbox.Identity{everybody.actor(names[0], 0).Identity, everybody.actor(names[1], 0).Identity},
		}
		if adoption.Singleton {
			adoption.Incoming = adoption.Incoming[:1]
		}
		requests = append(requests, signalbox.Request{Handover: adoption})
	}
	ledger := handover.NewLedger(s.trust(), enrolled)
	var log []*signalbox.DecidedBlock
	scheme := s.scheme(s.first)
	for _, r := range requests {
		raw, err := rpc.EncodeBlock(&signalbox.Block{
			Cluster: cluster, Epoch: 1, Index: ledger.Index() + 1, Prev: ledger.Digest(), At: epoch, Requests: []signalbox.Request{r},
		})
		if err != nil {
			panic(err)
		}
		var combined []byte
		for v := range scheme.quorum {
			combined = append(append(combined, byte(v)), shareOf(scheme.tags[v], rpc.DecisionInput(cluster, 1, raw))...)
		}
		b, err := rpc.SealDecision(raw, 1, scheme.Name(), combined)
		if err != nil {
			panic(err)
		}
		if err := ledger.Check(&r); err != nil {
			panic(err)
		}
		if err := ledger.Apply(b); err != nil {
			panic(err)
		}
		log = append(log, b)
	}
	return log
}

func (s *Sim) lay(log []*signalbox.DecidedBlock) {
	s.oracle.log, s.oracle.epoch = append(s.oracle.log, log...), s.first.Epoch
	for _, g := range s.gateways {
		g.book = s.newBook(s.trust())
		for _, b := range log {
			if err := g.book.take(b); err != nil {
				panic(err)
			}
		}
	}
}
