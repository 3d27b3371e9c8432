package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// The files of a keys directory, beside cluster.json, ca.pem and gossip/.
const (
	fileCAKey     = "ca.key"
	fileCANext    = "ca-next.key"
	dirGossip     = "gossip"
	dirBundles    = "bundles"
	poolGateways  = "gossip-gateways"
	suffixKeyring = ".key"
	suffixNext    = ".next"
)

// A Spec is what a new cluster consists of.
type Spec struct {
	Cluster     string
	DataCenters []DataCenter
	// Voters are the names of the voting gateways; default: the first gateway.
	Voters []string
	// Signatures is how voters sign; default: SchemeList.
	Signatures Scheme
	// Validity of certificates (default DefaultValidity) and of the CA
	// (default DefaultCAValidity).
	Validity, CAValidity time.Duration
}

// An Authority is a keys directory: it signs for one cluster. It is used by one
// process at a time.
type Authority struct {
	dir     string
	cluster *Cluster
	// trusted are the CAs in ca.pem; signer is the one that key belongs to.
	trusted []*x509.Certificate
	signer  *x509.Certificate
	key     *ecdsa.PrivateKey
}

// Init makes a cluster's keys directory, with a bundle for each gateway in it
// (see BundleDir): a voter's key exists in its bundle only. dir must not exist
// or be empty; there is no way to overwrite one. What is left after a failure
// is not usable by mistake: dir appears as a whole or not at all.
func Init(dir string, spec Spec, now time.Time) (*Authority, error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("make keys in %s: %w: it is there already; a cluster's keys are never overwritten", dir, signalbox.ErrConflict)
	}
	cluster, voterKeys, err := newCluster(spec)
	if err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(dir)), 0o755); err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dir)), "."+filepath.Base(filepath.Clean(dir))+".*")
	if err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	defer os.RemoveAll(tmp)
	a := &Authority{dir: tmp, cluster: cluster}
	if err := a.create(spec, voterKeys, now); err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	return Open(dir)
}

func newCluster(spec Spec) (*Cluster, map[string]*voterSecrets, error) {
	c := &Cluster{Format: ClusterFormat, Name: spec.Cluster, Epoch: 1, Signatures: spec.Signatures.Name, DataCenters: spec.DataCenters}
	names := spec.Voters
	if len(names) == 0 && len(spec.DataCenters) > 0 && len(spec.DataCenters[0].Gateways) > 0 {
		names = []string{spec.DataCenters[0].Gateways[0].Name}
	}
	c.Unavailable, c.Lying = DefaultFaults(len(names))
	keys := map[string]*voterSecrets{}
	for _, name := range names {
		_, dc, ok := c.Gateway(name)
		if !ok {
			return nil, nil, fmt.Errorf("%w: voter %q is none of the gateways", signalbox.ErrInvalid, name)
		}
		v := Voter{Name: name, DataCenter: dc}
		secrets, err := newVoter(&v, spec.Signatures)
		if err != nil {
			return nil, nil, err
		}
		keys[name] = secrets
		c.Voters = append(c.Voters, v)
	}
	return c, keys, c.Validate()
}

func (a *Authority) create(spec Spec, voterKeys map[string]*voterSecrets, now time.Time) error {
	caValidity := spec.CAValidity
	if caValidity == 0 {
		caValidity = DefaultCAValidity
	}
	var err error
	if a.signer, a.key, err = newCA(a.cluster.Name, caValidity, now); err != nil {
		return err
	}
	a.trusted = []*x509.Certificate{a.signer}
	if err := a.writeKey(fileCAKey, a.key); err != nil {
		return err
	}
	if err := a.save(); err != nil {
		return err
	}
	for _, pool := range a.pools() {
		if err := a.newKeyring(pool); err != nil {
			return err
		}
	}
	for _, dc := range a.cluster.DataCenters {
		for _, g := range dc.Gateways {
			p := rpc.Principal{Cluster: a.cluster.Name, Role: rpc.RoleGateway, DataCenter: dc.Name, Name: g.Name}
			own, err := voterKeys[g.Name].files(a.cluster.Scheme())
			if err != nil {
				return err
			}
			if err := a.issue(p, a.BundleDir(p), own, IssueOptions{Validity: spec.Validity, Now: now}); err != nil {
				return err
			}
		}
	}
	return syncDir(a.dir)
}

// Open reads a keys directory.
func Open(dir string) (*Authority, error) {
	cluster, err := LoadCluster(dir)
	if err != nil {
		return nil, fmt.Errorf("open keys: %w", err)
	}
	a := &Authority{dir: dir, cluster: cluster}
	if a.trusted, err = readCertificates(filepath.Join(dir, FileCA)); err != nil {
		return nil, fmt.Errorf("open keys: %w", err)
	}
	if a.key, err = readECDSA(filepath.Join(dir, fileCAKey)); err != nil {
		return nil, fmt.Errorf("open keys (a keys directory holds ca.key; a bundle does not): %w", err)
	}
	for _, c := range a.trusted {
		if a.key.PublicKey.Equal(c.PublicKey) {
			a.signer = c
		}
	}
	if a.signer == nil {
		return nil, fmt.Errorf("open keys %s: %w: ca.key belongs to no certificate of ca.pem", dir, signalbox.ErrInvalid)
	}
	return a, nil
}

// Dir is the keys directory.
func (a *Authority) Dir() string { return a.dir }

// Cluster is the public description; it must not be changed.
func (a *Authority) Cluster() *Cluster { return a.cluster }

// BundleDir is where a principal's bundle is made unless another place is said.
func (a *Authority) BundleDir(p rpc.Principal) string {
	return filepath.Join(a.dir, dirBundles, string(p.Role), string(p.DataCenter), p.Name)
}

// save writes what is public.
func (a *Authority) save() error {
	data, err := a.cluster.Encode()
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(a.dir, FileCA), pemCertificates(a.trusted...), modePublic); err != nil {
		return err
	}
	return writeFile(filepath.Join(a.dir, FileCluster), data, modePublic)
}

func (a *Authority) writeKey(name string, key any) error {
	data, err := pemKey(key)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(a.dir, name), data, modeSecret)
}

// pools are the gossip pools: one per data center, and the gateways'.
func (a *Authority) pools() []string {
	out := []string{poolGateways}
	for _, dc := range a.cluster.DataCenters {
		out = append(out, poolOf(dc.Name))
	}
	return out
}

func poolOf(dc signalbox.DataCenter) string { return filepath.Join(dirGossip, string(dc)) }

func (a *Authority) keyringPath(pool string) string {
	return filepath.Join(a.dir, pool+suffixKeyring)
}

func (a *Authority) newKeyring(pool string) error {
	path := a.keyringPath(pool)
	if err := os.MkdirAll(filepath.Dir(path), modeDir); err != nil {
		return fmt.Errorf("make gossip keyring: %w", err)
	}
	key, err := newGossipKey()
	if err != nil {
		return err
	}
	return writeFile(path, encodeKeyring([][]byte{key}), modeSecret)
}

func newGossipKey() ([]byte, error) {
	key := make([]byte, GossipKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make gossip key: %w", err)
	}
	return key, nil
}

// AddGateway adds a gateway that does not vote to the description, and its data
// center when it is new. Rotate tells the existing bundles.
func (a *Authority) AddGateway(dc signalbox.DataCenter, g Gateway) error {
	next := *a.cluster
	next.DataCenters = nil
	added := false
	for _, d := range a.cluster.DataCenters {
		gateways := append([]Gateway(nil), d.Gateways...)
		if d.Name == dc {
			gateways, added = append(gateways, g), true
		}
		next.DataCenters = append(next.DataCenters, DataCenter{Name: d.Name, Gateways: gateways})
	}
	if !added {
		next.DataCenters = append(next.DataCenters, DataCenter{Name: dc, Gateways: []Gateway{g}})
	}
	if err := next.Validate(); err != nil {
		return fmt.Errorf("add gateway: %w", err)
	}
	if !added {
		if err := a.newKeyring(poolOf(dc)); err != nil {
			return err
		}
	}
	a.cluster = &next
	return a.save()
}

func newCA(cluster string, validity time.Duration, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make CA key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		// The serial number in the name keeps two CAs of a cluster apart
		// where they are looked up by name.
		Subject:   pkix.Name{CommonName: "signalbox " + cluster, SerialNumber: serial.Text(16)},
		NotBefore: now.Add(-ClockSkew), NotAfter: now.Add(validity),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("make CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

// newSerial returns a random positive serial number of at most 127 bits.
func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}
