package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// IssueOptions say how a bundle is made.
type IssueOptions struct {
	// Validity of the certificate; default DefaultValidity, never beyond the CA's.
	Validity time.Duration
	// Force replaces an existing bundle.
	Force bool
	// LostVoterKey makes the bundle of a voter whose key is lost: without it the
	// gateway follows, until a change of voters names its new one.
	LostVoterKey bool
	// Now is the wall clock; required.
	Now time.Time
}

// Issue makes a bundle for a principal in the directory out. It fails with
// ErrConflict when out is there already and Force is not set, and always when
// that would lose a voter's key.
func (a *Authority) Issue(p rpc.Principal, out string, o IssueOptions) error {
	if err := a.mayHave(p); err != nil {
		return fmt.Errorf("issue bundle: %w", err)
	}
	if _, votes := a.cluster.Voter(p.Name); votes && p.Role == rpc.RoleGateway && !exists(filepath.Join(out, FileVoter)) && !o.LostVoterKey {
		return fmt.Errorf("issue bundle: %w: gateway %s votes and its voter key exists only in the bundle that was made with the cluster: rotate that one (or, when it is lost: --lost-voter-key)", signalbox.ErrRefused, p.Name)
	}
	if exists(out) {
		if err := a.mayReplace(p, out, o.Force); err != nil {
			return fmt.Errorf("issue bundle: %w", err)
		}
	}
	if p.Role == rpc.RoleOperator {
		return a.issueOperator(p, out, o)
	}
	var own []bundleFile
	if o.LostVoterKey {
		own = []bundleFile{{FileVoterLost, []byte("The voter key of this gateway is lost; it votes again with a new one: signalbox gateway voters change --replace.\n"), modePublic}}
	}
	return a.issue(p, out, own, o)
}

// issueOperator makes an operator's bundle with a new key for attesting. The key
// counts where the description that names it has come.
func (a *Authority) issueOperator(p rpc.Principal, out string, o IssueOptions) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("issue bundle: make operator key: %w", err)
	}
	next := *a.cluster
	next.Operators = append(slices.Clone(a.cluster.Operators), Operator{Name: p.Name, PublicKey: public})
	if err := next.Validate(); err != nil {
		return fmt.Errorf("issue bundle: %w", err)
	}
	a.cluster = &next
	if err := a.save(); err != nil {
		return fmt.Errorf("issue bundle: %w", err)
	}
	data, err := pemKey(private)
	if err != nil {
		return fmt.Errorf("issue bundle: %w", err)
	}
	return a.issue(p, out, []bundleFile{{FileOperator, data, modeSecret}}, o)
}

// mayHave says whether the cluster can have such a principal.
func (a *Authority) mayHave(p rpc.Principal) error {
	if _, err := rpc.ParsePrincipal(p.String()); err != nil {
		return fmt.Errorf("%w: %q: a role needs a name (and, but for an operator, a data center) of at most %d lowercase letters, digits and inner hyphens", signalbox.ErrInvalid, p, signalbox.MaxName)
	}
	if p.Cluster != a.cluster.Name {
		return fmt.Errorf("%w: %s in the keys of cluster %q", signalbox.ErrInvalid, p, a.cluster.Name)
	}
	if p.Role == rpc.RoleOperator {
		return nil
	}
	if !a.cluster.Has(p.DataCenter) {
		return fmt.Errorf("%w: data center %q: the cluster has %s", signalbox.ErrUnknown, p.DataCenter, a.dataCenterNames())
	}
	if p.Role == rpc.RoleGateway {
		if _, dc, ok := a.cluster.Gateway(p.Name); !ok || dc != p.DataCenter {
			return fmt.Errorf("%w: gateway %q of data center %q: add it with its address first", signalbox.ErrUnknown, p.Name, p.DataCenter)
		}
	}
	return nil
}

func (a *Authority) dataCenterNames() (names []signalbox.DataCenter) {
	for _, dc := range a.cluster.DataCenters {
		names = append(names, dc.Name)
	}
	return names
}

func (a *Authority) mayReplace(p rpc.Principal, out string, force bool) error {
	entries, err := os.ReadDir(out)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	holder, err := holderOf(out)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s is there and is no bundle", signalbox.ErrConflict, out)
	case holder != p && exists(filepath.Join(out, FileVoter)):
		return fmt.Errorf("%w: %s holds the only copy of a voter's key (%s): choose another place", signalbox.ErrConflict, out, holder)
	case !force:
		return fmt.Errorf("%w: %s is there already and belongs to %s: rotate it, choose another place, or replace it with --force", signalbox.ErrConflict, out, holder)
	}
	return nil
}

func holderOf(bundle string) (rpc.Principal, error) {
	certs, err := readCertificates(filepath.Join(bundle, FileCertificate))
	if err != nil {
		return rpc.Principal{}, err
	}
	return rpc.PrincipalOf(certs[0])
}

// Rotate gives an existing bundle a new certificate and key in place, and what
// changed since in the CAs, the gossip keyrings and the cluster's description.
// A voter's key stays. A running process takes the new identity by itself.
func (a *Authority) Rotate(bundle string, o IssueOptions) error {
	p, err := holderOf(bundle)
	if err != nil {
		return fmt.Errorf("rotate bundle: %w", err)
	}
	old, err := LoadCluster(bundle)
	if err != nil {
		return fmt.Errorf("rotate bundle: %w", err)
	}
	same := func(x, y Voter) bool {
		return x.Name == y.Name && string(x.PublicKey) == string(y.PublicKey) && string(x.SignatureKey) == string(y.SignatureKey)
	}
	if old.Name != a.cluster.Name || old.Epoch == a.cluster.Epoch && !slices.EqualFunc(old.Voters, a.cluster.Voters, same) {
		return fmt.Errorf("rotate bundle %s: %w: it is of another cluster than the keys in %s", bundle, signalbox.ErrUntrusted, a.dir)
	}
	if err := a.mayHave(p); err != nil {
		return fmt.Errorf("rotate bundle: %w", err)
	}
	return a.issue(p, bundle, nil, o)
}

// issue writes a bundle's files, each atomically. First what others will need
// in order to be believed (the CAs), then key and certificate: a reader between
// these two sees a pair that does not fit and keeps the one it has.
// own are the keys of a voter or an operator, nil where they stay as they are.
func (a *Authority) issue(p rpc.Principal, out string, own []bundleFile, o IssueOptions) error {
	cert, key, err := a.newLeaf(p, o)
	if err != nil {
		return fmt.Errorf("issue bundle: %w", err)
	}
	keyPEM, err := pemKey(key)
	if err != nil {
		return fmt.Errorf("issue bundle: %w", err)
	}
	description, err := a.cluster.Encode()
	if err != nil {
		return fmt.Errorf("issue bundle: %w", err)
	}
	files := []bundleFile{
		{FileCluster, description, modePublic},
		{FileCA, pemCertificates(a.trusted...), modePublic},
	}
	keyrings, err := a.keyringsFor(p)
	if err != nil {
		return fmt.Errorf("issue bundle: %w", err)
	}
	files = append(append(files, keyrings...), own...)
	if p.Role != rpc.RoleOperator {
		os.Remove(filepath.Join(out, FileOperator)) // of an operator whose bundle this was
	}
	files = append(files, bundleFile{FileKey, keyPEM, modeSecret}, bundleFile{FileCertificate, pemCertificates(cert), modePublic})
	return writeBundle(out, files)
}

type bundleFile struct {
	name string
	data []byte
	mode os.FileMode
}

func writeBundle(out string, files []bundleFile) error {
	if err := os.MkdirAll(out, modeDir); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	kept := map[string]bool{FileVoter: true, FileOperator: true}
	for _, f := range files {
		kept[f.name] = true
		if err := writeFile(filepath.Join(out, f.name), f.data, f.mode); err != nil {
			return fmt.Errorf("write bundle: %w", err)
		}
	}
	// A bundle that had another holder before keeps nothing of it.
	for _, name := range []string{FileGossip, FileGossipGateway} {
		if !kept[name] {
			os.Remove(filepath.Join(out, name))
		}
	}
	if err := syncDir(out); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

// keyringsFor returns the gossip keyrings that a role takes part with.
func (a *Authority) keyringsFor(p rpc.Principal) (files []bundleFile, err error) {
	pools := map[string]string{}
	switch p.Role {
	case rpc.RoleGateway:
		pools = map[string]string{FileGossip: poolOf(p.DataCenter), FileGossipGateway: poolGateways}
	case rpc.RoleAgent:
		pools = map[string]string{FileGossip: poolOf(p.DataCenter)}
	}
	for name, pool := range pools {
		keys, err := readKeyring(a.keyringPath(pool))
		if err != nil {
			return nil, err
		}
		files = append(files, bundleFile{name, encodeKeyring(keys), modeSecret})
	}
	return files, nil
}

func (a *Authority) newLeaf(p rpc.Principal, o IssueOptions) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	validity := o.Validity
	if validity == 0 {
		validity = DefaultValidity
	}
	if validity < MinValidity {
		return nil, nil, fmt.Errorf("%w: validity %s, want at least %s", signalbox.ErrInvalid, validity, MinValidity)
	}
	end := o.Now.Add(validity)
	if end.After(a.signer.NotAfter) {
		end = a.signer.NotAfter
	}
	if !o.Now.Before(end) {
		return nil, nil, fmt.Errorf("%w: the CA expired on %s: stage and activate a new one", signalbox.ErrUntrusted, a.signer.NotAfter.Format(time.DateOnly))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, err
	}
	uri := p.URI()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: string(p.Role) + " " + p.Name},
		NotBefore: o.Now.Add(-ClockSkew), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	template.URIs = append(template.URIs, uri)
	if p.Role == rpc.RoleGateway {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		template.DNSNames, template.IPAddresses = a.hosts(p.Name)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.signer, key.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

// hosts are the hosts in a gateway's addresses, for clients that check a name
// instead of a SPIFFE URI (gRPC's xDS client).
func (a *Authority) hosts(gateway string) (names []string, ips []net.IP) {
	g, _, _ := a.cluster.Gateway(gateway)
	seen := map[string]bool{}
	for _, addr := range []string{g.RPC, g.XDS, g.API} {
		host, _, err := net.SplitHostPort(addr)
		if err != nil || seen[host] {
			continue
		}
		seen[host] = true
		if ip := net.ParseIP(host); ip != nil {
			ips = append(ips, ip)
		} else {
			names = append(names, host)
		}
	}
	return names, ips
}
