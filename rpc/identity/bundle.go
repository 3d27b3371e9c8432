package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// A Bundle is all that one process needs to prove who it is and to check
// others. Its fields must not be changed.
type Bundle struct {
	Dir     string
	Cluster *Cluster
	Self    rpc.Principal
	// NotBefore and NotAfter bound the certificate's validity.
	NotBefore, NotAfter time.Time
	// Authorities are the trusted CAs.
	Authorities []*x509.Certificate
	// Gossip is the keyring of the data center's pool, GatewayGossip that of
	// the gateways' pool; the first key is the primary one. Nil where the role
	// takes no part.
	Gossip, GatewayGossip [][]byte
	// Voter is the voter's key, nil for whoever does not vote.
	Voter ed25519.PrivateKey
	// VoterSignature is the voter's private key for the cluster's signature
	// scheme where that is another one than Voter.
	VoterSignature []byte
	// Operator is the key with which an operator attests; nil for a process, and
	// for a bundle that was made before operators had keys.
	Operator ed25519.PrivateKey
}

// Load reads a bundle and checks that it can be used now. Errors wrap
// ErrInvalid or ErrUntrusted and say what to do.
func Load(dir string) (*Bundle, error) { return LoadAt(dir, time.Now()) }

// LoadAt is Load at another time.
func LoadAt(dir string, now time.Time) (*Bundle, error) {
	b, err := read(dir)
	if err != nil {
		return nil, fmt.Errorf("load bundle %s: %w", dir, err)
	}
	if err := b.checkTime(now); err != nil {
		return nil, fmt.Errorf("load bundle %s: %w", dir, err)
	}
	return b, nil
}

// Inspect reads a bundle without looking at the clock: for showing one that
// expired.
func Inspect(dir string) (*Bundle, error) {
	b, err := read(dir)
	if err != nil {
		return nil, fmt.Errorf("inspect bundle %s: %w", dir, err)
	}
	return b, nil
}

func read(dir string) (*Bundle, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("%w (signalbox keys issue makes bundles)", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%w: it is a file; a bundle is a directory", signalbox.ErrInvalid)
	}
	b := &Bundle{Dir: dir}
	var err error
	if b.Cluster, err = LoadCluster(dir); err != nil {
		return nil, err
	}
	if err := b.readTLS(); err != nil {
		return nil, err
	}
	return b, b.readKeys()
}

func (b *Bundle) readTLS() error {
	leaf, err := readCertificates(b.path(FileCertificate))
	if err != nil {
		return err
	}
	key, err := readECDSA(b.path(FileKey))
	if err != nil {
		return err
	}
	if public, ok := leaf[0].PublicKey.(*ecdsa.PublicKey); !ok || !key.PublicKey.Equal(public) {
		return fmt.Errorf("%w: %s and %s do not belong together: rotate the bundle again", signalbox.ErrInvalid, FileKey, FileCertificate)
	}
	if b.Authorities, err = readCertificates(b.path(FileCA)); err != nil {
		return err
	}
	if b.Self, err = rpc.PrincipalOf(leaf[0]); err != nil {
		return err
	}
	if b.Self.Cluster != b.Cluster.Name {
		return fmt.Errorf("%w: certificate of cluster %q beside the description of cluster %q", signalbox.ErrUntrusted, b.Self.Cluster, b.Cluster.Name)
	}
	b.NotBefore, b.NotAfter = leaf[0].NotBefore, leaf[0].NotAfter
	_, err = leaf[0].Verify(x509.VerifyOptions{
		Roots: b.Roots(), CurrentTime: leaf[0].NotBefore.Add(leaf[0].NotAfter.Sub(leaf[0].NotBefore) / 2),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return fmt.Errorf("%w: %s was not issued by a CA in %s (another cluster of the same name, or the CA was retired): %w", signalbox.ErrUntrusted, FileCertificate, FileCA, err)
	}
	return nil
}

func (b *Bundle) readKeys() (err error) {
	if b.Self.Role == rpc.RoleOperator {
		return b.readOperator()
	}
	if b.Self.Role != rpc.RoleGateway && b.Self.Role != rpc.RoleAgent {
		return nil
	}
	if b.Gossip, err = readKeyring(b.path(FileGossip)); err != nil {
		return err
	}
	if b.Self.Role != rpc.RoleGateway {
		return nil
	}
	if b.GatewayGossip, err = readKeyring(b.path(FileGossipGateway)); err != nil {
		return err
	}
	if _, dc, ok := b.Cluster.Gateway(b.Self.Name); !ok || dc != b.Self.DataCenter {
		return fmt.Errorf("%w: %s is no gateway of the cluster's description", signalbox.ErrUntrusted, b.Self)
	}
	return b.readVoter()
}

func (b *Bundle) readOperator() error {
	key, err := readEd25519(b.path(FileOperator))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	b.Operator = key
	for _, o := range b.Cluster.Operators {
		if o.Name == b.Self.Name && key.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(o.PublicKey)) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is no key of operator %s in %s: take the key that was made with this bundle, or make a bundle with a new one: signalbox keys issue operator", signalbox.ErrUntrusted, FileOperator, b.Self.Name, FileCluster)
}

func (b *Bundle) checkTime(now time.Time) error {
	if now.Before(b.NotBefore) {
		return fmt.Errorf("%w: certificate of %s is valid from %s: check this machine's clock", signalbox.ErrUntrusted, b.Self, b.NotBefore.Format(time.RFC3339))
	}
	if now.After(b.NotAfter) {
		return fmt.Errorf("%w: certificate of %s expired on %s: signalbox keys rotate %s", signalbox.ErrUntrusted, b.Self, b.NotAfter.Format(time.RFC3339), b.Dir)
	}
	return nil
}

func (b *Bundle) path(name string) string { return filepath.Join(b.Dir, name) }

// Files are the paths of the TLS identity.
func (b *Bundle) Files() rpc.Files {
	return rpc.Files{Certificate: b.path(FileCertificate), Key: b.path(FileKey), CA: b.path(FileCA)}
}

// Keeper holds the TLS identity and follows its rotation.
func (b *Bundle) Keeper() (*rpc.Keeper, error) { return rpc.NewKeeper(b.Cluster.Name, b.Files()) }

// Roots are the trusted CAs as a pool.
func (b *Bundle) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range b.Authorities {
		pool.AddCert(c)
	}
	return pool
}

// Gateways are the gateways of the holder's own data center.
func (b *Bundle) Gateways() []Gateway { return b.Cluster.Gateways(b.Self.DataCenter) }

// RenewBy is when the certificate should be rotated: RenewWithin before its
// end, or after two thirds of a shorter validity.
func (b *Bundle) RenewBy() time.Time {
	return b.NotAfter.Add(-min(RenewWithin, b.NotAfter.Sub(b.NotBefore)/3))
}

// ReadGossip reads the gossip keys of a bundle anew, after they were rotated: that
// of the data center's pool and, for a gateway, that of the gateways' (nil for
// others). Errors wrap ErrInvalid, or say what cannot be read.
func ReadGossip(dir string) (own, gateways [][]byte, err error) {
	b := &Bundle{Dir: dir}
	if own, err = readKeyring(b.path(FileGossip)); err != nil {
		return nil, nil, err
	}
	gateways, err = readKeyring(b.path(FileGossipGateway))
	if errors.Is(err, fs.ErrNotExist) {
		return own, nil, nil
	}
	return own, gateways, err
}
