package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// ClusterFormat names the format of cluster.json.
const ClusterFormat = "signalbox-cluster/v1"

// Cluster is the public description of a cluster, cluster.json: who votes, and
// where the gateways are. It holds no secret; whoever has it can verify
// certificates offline.
type Cluster struct {
	Format string `json:"format"`
	Name   string `json:"cluster"`
	// Epoch numbers the voter set.
	Epoch uint64 `json:"epoch"`
	// Unavailable (u) voters may be away, Lying (r) of them may lie:
	// the voters number 2u + r + 1, and a quorum is all but u.
	Unavailable int `json:"unavailable"`
	Lying       int `json:"lying"`
	// Signatures names the scheme that voters sign blocks with; see Scheme.
	Signatures  string       `json:"signatures,omitempty"`
	Voters      []Voter      `json:"voters"`
	DataCenters []DataCenter `json:"data_centers"`
	// Operators may attest. A name stands as often as its holder had a key: what
	// an old key signed stays verifiable.
	Operators []Operator `json:"operators,omitempty"`
}

// An Operator is a person whose key may attest for an instance.
type Operator struct {
	Name      string `json:"name"`
	PublicKey []byte `json:"public_key"`
}

// A Voter is a gateway that takes part in agreement, by its public key.
type Voter struct {
	Name       string               `json:"name"`
	DataCenter signalbox.DataCenter `json:"data_center"`
	// PublicKey is the Ed25519 key of what a voter says by itself.
	PublicKey []byte `json:"public_key"`
	// SignatureKey is the key for blocks where the cluster's signature scheme has
	// keys of its own, and SignatureProof that the voter holds its private part.
	SignatureKey   []byte `json:"signature_key,omitempty"`
	SignatureProof []byte `json:"signature_proof,omitempty"`
}

// A DataCenter is a data center with its gateways.
type DataCenter struct {
	Name     signalbox.DataCenter `json:"name"`
	Gateways []Gateway            `json:"gateways"`
}

// A Gateway is where one gateway is reached; addresses are host:port.
type Gateway struct {
	// Name is unique in the cluster.
	Name string `json:"name"`
	// RPC is for agents and other gateways, XDS for proxies, API for people.
	RPC string `json:"rpc"`
	XDS string `json:"xds"`
	API string `json:"api"`
	// GossipLAN is the gateway in its data center's pool, GossipWAN in the
	// gateways' pool.
	GossipLAN string `json:"gossip_lan"`
	GossipWAN string `json:"gossip_wan"`
	// Metrics is where Prometheus asks; Parking is where proxyless gRPC
	// clients wait during a hold.
	Metrics string `json:"metrics"`
	Parking string `json:"parking"`
}

// DefaultPort is the first of a gateway's ports where none is said.
const DefaultPort = 7400

// PortsPerGateway is how many consecutive ports GatewayAt takes.
const PortsPerGateway = 7

// GatewayAt lays out a gateway's addresses on one host: rpc at port, then xds,
// api, gossip_lan, gossip_wan, metrics and parking on the ports that follow.
func GatewayAt(name, host string, port int) Gateway {
	at := func(n int) string { return net.JoinHostPort(host, strconv.Itoa(port+n)) }
	return Gateway{
		Name: name, RPC: at(0), XDS: at(1), API: at(2), GossipLAN: at(3), GossipWAN: at(4), Metrics: at(5), Parking: at(6),
	}
}

// Addresses returns the gateway's addresses by the word that configuration
// files use for each.
func (g *Gateway) Addresses() map[string]*string {
	return map[string]*string{
		"rpc": &g.RPC, "xds": &g.XDS, "api": &g.API, "gossip_lan": &g.GossipLAN, "gossip_wan": &g.GossipWAN,
		"metrics": &g.Metrics, "parking": &g.Parking,
	}
}

// Quorum is how many voters have to sign.
func (c *Cluster) Quorum() int { return len(c.Voters) - c.Unavailable }

// Gateway returns a gateway by its name, and its data center.
func (c *Cluster) Gateway(name string) (Gateway, signalbox.DataCenter, bool) {
	for _, dc := range c.DataCenters {
		for _, g := range dc.Gateways {
			if g.Name == name {
				return g, dc.Name, true
			}
		}
	}
	return Gateway{}, "", false
}

// Gateways returns the gateways of a data center, nil when it is not known.
func (c *Cluster) Gateways(dc signalbox.DataCenter) []Gateway {
	for _, d := range c.DataCenters {
		if d.Name == dc {
			return d.Gateways
		}
	}
	return nil
}

// Has reports whether the cluster has the data center.
func (c *Cluster) Has(dc signalbox.DataCenter) bool {
	return slices.ContainsFunc(c.DataCenters, func(d DataCenter) bool { return d.Name == dc })
}

// Voter returns a voter by its gateway's name.
func (c *Cluster) Voter(name string) (Voter, bool) {
	for _, v := range c.Voters {
		if v.Name == name {
			return v, true
		}
	}
	return Voter{}, false
}

// VoterKey looks a voter's public key up by its fingerprint: a rpc.KeyLookup
// for answers.
func (c *Cluster) VoterKey(id signalbox.Identity) ed25519.PublicKey {
	for _, v := range c.Voters {
		if rpc.IdentityOf(v.PublicKey) == id {
			return v.PublicKey
		}
	}
	return nil
}

// OperatorKeys returns the keys that the description names for an operator.
func (c *Cluster) OperatorKeys(name string) (keys []ed25519.PublicKey) {
	for _, o := range c.Operators {
		if o.Name == name {
			keys = append(keys, o.PublicKey)
		}
	}
	return keys
}

// Trust is what verifies the cluster's blocks, certificates and evidence: the
// voters' quorum by their scheme, fences by the voters' own keys, attests by the
// operators'.
func (c *Cluster) Trust(quorum rpc.QuorumVerifier) rpc.Trust {
	signers := func(id signalbox.Identity) (rpc.Signer, bool) {
		for _, v := range c.Voters {
			if rpc.IdentityOf(v.PublicKey) == id {
				return rpc.Signer{Name: v.Name, Key: v.PublicKey}, true
			}
		}
		return rpc.Signer{}, false
	}
	operators := func(id signalbox.Identity) (rpc.Signer, bool) {
		for _, o := range c.Operators {
			if rpc.IdentityOf(o.PublicKey) == id {
				return rpc.Signer{Name: o.Name, Key: o.PublicKey}, true
			}
		}
		return rpc.Signer{}, false
	}
	trust := rpc.Trust{Cluster: c.Name, Quorum: rpc.Remember(quorum), Fencers: signers, FenceQuorum: c.Lying + 1, Operators: operators}
	return trust.WithOperators(func(name string) (keys []ed25519.PublicKey) {
		for _, o := range c.Operators {
			if o.Name == name {
				keys = append(keys, o.PublicKey)
			}
		}
		return keys
	})
}

// Validate checks names, addresses, keys and the voters' numbers. Errors wrap
// signalbox.ErrInvalid and say what was expected.
func (c *Cluster) Validate() error {
	if c.Format != ClusterFormat {
		return fmt.Errorf("%w: format %.60q, want %q", signalbox.ErrInvalid, c.Format, ClusterFormat)
	}
	if err := signalbox.CheckName("cluster", c.Name); err != nil {
		return err
	}
	if len(c.DataCenters) == 0 || len(c.DataCenters) > MaxDataCenters {
		return fmt.Errorf("%w: cluster has %d data centers, want 1 to %d", signalbox.ErrInvalid, len(c.DataCenters), MaxDataCenters)
	}
	seenDC, seenGateway := map[signalbox.DataCenter]bool{}, map[string]bool{}
	for _, dc := range c.DataCenters {
		if err := signalbox.CheckName("data center", string(dc.Name)); err != nil {
			return err
		}
		if seenDC[dc.Name] {
			return fmt.Errorf("%w: data center %q stands twice", signalbox.ErrInvalid, dc.Name)
		}
		seenDC[dc.Name] = true
		if err := dc.validate(seenGateway); err != nil {
			return err
		}
	}
	if err := c.validateOperators(); err != nil {
		return err
	}
	return c.validateVoters()
}

func (c *Cluster) validateOperators() error {
	if len(c.Operators) > MaxOperators {
		return fmt.Errorf("%w: cluster has %d operators' keys, at most %d", signalbox.ErrInvalid, len(c.Operators), MaxOperators)
	}
	seen := map[string]bool{}
	for _, o := range c.Operators {
		if err := signalbox.CheckName("operator", o.Name); err != nil {
			return err
		}
		if len(o.PublicKey) != ed25519.PublicKeySize {
			return fmt.Errorf("%w: operator %q: public key has %d bytes, want %d", signalbox.ErrInvalid, o.Name, len(o.PublicKey), ed25519.PublicKeySize)
		}
		if seen[string(o.PublicKey)] {
			return fmt.Errorf("%w: the key of operator %q stands twice", signalbox.ErrInvalid, o.Name)
		}
		seen[string(o.PublicKey)] = true
	}
	return nil
}

func (dc *DataCenter) validate(seen map[string]bool) error {
	if len(dc.Gateways) == 0 || len(dc.Gateways) > MaxGateways {
		return fmt.Errorf("%w: data center %q has %d gateways, want 1 to %d", signalbox.ErrInvalid, dc.Name, len(dc.Gateways), MaxGateways)
	}
	for i := range dc.Gateways {
		g := &dc.Gateways[i]
		if err := signalbox.CheckName("gateway", g.Name); err != nil {
			return err
		}
		if seen[g.Name] {
			return fmt.Errorf("%w: gateway %q stands twice: names are unique in the cluster", signalbox.ErrInvalid, g.Name)
		}
		seen[g.Name] = true
		for what, addr := range g.Addresses() {
			if err := CheckAddress(*addr); err != nil {
				return fmt.Errorf("gateway %q: %s: %w", g.Name, what, err)
			}
		}
	}
	return nil
}

func (c *Cluster) validateVoters() error {
	n, u, r := len(c.Voters), c.Unavailable, c.Lying
	if u < 0 || r < 0 || r > u || n != 2*u+r+1 {
		return fmt.Errorf("%w: %d voters with %d unavailable, %d of them lying: the voters must number 2u + r + 1 with r at most u, so that a quorum is left when u are away and two quorums share one that does not lie. Take 1 voter (survives nothing), 3 (one away), 4 (one away or lying), 5 (two away) or 6 (two away, one of them lying); two voters could not lose either", signalbox.ErrInvalid, n, u, r)
	}
	seen := map[string]bool{}
	for _, v := range c.Voters {
		_, dc, ok := c.Gateway(v.Name)
		if !ok || dc != v.DataCenter {
			return fmt.Errorf("%w: voter %q is no gateway of data center %q", signalbox.ErrInvalid, v.Name, v.DataCenter)
		}
		if len(v.PublicKey) != ed25519.PublicKeySize {
			return fmt.Errorf("%w: voter %q: public key has %d bytes, want %d", signalbox.ErrInvalid, v.Name, len(v.PublicKey), ed25519.PublicKeySize)
		}
		if seen[v.Name] || seen[string(v.PublicKey)] {
			return fmt.Errorf("%w: voter %q or its key stands twice", signalbox.ErrInvalid, v.Name)
		}
		seen[v.Name], seen[string(v.PublicKey)] = true, true
	}
	return c.validateSignatures()
}

// CheckAddress returns nil for host:port with a port from 1 to 65535.
func CheckAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || len(addr) > 300 {
		return fmt.Errorf("%w: address %.80q: want host:port", signalbox.ErrInvalid, addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%w: address %.80q: want a port from 1 to 65535", signalbox.ErrInvalid, addr)
	}
	return nil
}

// DefaultFaults returns u and r for n voters: as many unavailable as n carries.
func DefaultFaults(n int) (unavailable, lying int) {
	u := max(n-1, 0) / 2
	return u, max(n-1, 0) - 2*u
}

// ParseCluster reads and validates cluster.json. Unknown fields are refused: a
// field that this program does not know could matter.
func ParseCluster(data []byte) (*Cluster, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", signalbox.ErrInvalid, len(data), MaxFile)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var c Cluster
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("%w: %w", signalbox.ErrInvalid, err)
	}
	if dec.More() {
		return nil, fmt.Errorf("%w: something follows the JSON document", signalbox.ErrInvalid)
	}
	return &c, c.Validate()
}

// LoadCluster reads a cluster.json, or the one in a bundle or keys directory.
func LoadCluster(path string) (*Cluster, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, FileCluster)
	}
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read cluster: %w (want a cluster.json, or a directory that signalbox keys made)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read cluster: %w", err)
	}
	c, err := ParseCluster(data)
	if err != nil {
		return nil, fmt.Errorf("read cluster %s: %w", path, err)
	}
	return c, nil
}

// Encode returns cluster.json's bytes.
func (c *Cluster) Encode() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("encode cluster: %w", err)
	}
	data, err := json.MarshalIndent(c, "", "  ")
	return append(data, '\n'), err
}
