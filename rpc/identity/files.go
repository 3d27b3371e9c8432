package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/signalbox-io/signalbox"
)

const (
	modeSecret = 0o600
	modePublic = 0o644
	modeDir    = 0o700
)

// readFile reads a file of at most MaxFile bytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", signalbox.ErrInvalid, path, MaxFile)
	}
	return data, nil
}

// readSecret reads a file that nobody but its owner may be able to read.
func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s is a secret that others can read (mode %04o): chmod 600 %s", signalbox.ErrUntrusted, path, mode, path)
	}
	return readFile(path)
}

// writeFile replaces a file atomically: whoever opens path reads the old
// content or the new one, also after a crash.
func writeFile(path string, data []byte, mode os.FileMode) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = tmp.Close() // may be closed already
			os.Remove(tmp.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err := tmp.Chmod(mode); err != nil {
		return err
	}
	if _, err := tmp.Write(data); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func pemKey(key any) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(data []byte) (any, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%w: no PEM block \"PRIVATE KEY\" in it", signalbox.ErrInvalid)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", signalbox.ErrInvalid, err)
	}
	return key, nil
}

func readECDSA(path string) (*ecdsa.PrivateKey, error) {
	data, err := readSecret(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	key, err := parseKey(data)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read key %s: %w: a %T, want ECDSA P-256", path, signalbox.ErrInvalid, key)
	}
	return k, nil
}

func readEd25519(path string) (ed25519.PrivateKey, error) {
	data, err := readSecret(path)
	if err != nil {
		return nil, fmt.Errorf("read Ed25519 key: %w", err)
	}
	key, err := parseKey(data)
	if err != nil {
		return nil, fmt.Errorf("read Ed25519 key %s: %w", path, err)
	}
	k, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read Ed25519 key %s: %w: a %T, want Ed25519", path, signalbox.ErrInvalid, key)
	}
	return k, nil
}

func pemCertificates(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("read certificate %s: %w: PEM block %q, want certificates only", path, signalbox.ErrInvalid, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read certificate %s: %w: %w", path, signalbox.ErrInvalid, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 || len(bytes.TrimSpace(data)) != 0 {
		return nil, fmt.Errorf("read certificate %s: %w: want PEM certificates and nothing else", path, signalbox.ErrInvalid)
	}
	return out, nil
}

// encodeKeyring writes gossip keys in base64, one per line, the primary first.
func encodeKeyring(keys [][]byte) []byte {
	var out []byte
	for _, k := range keys {
		out = base64.StdEncoding.AppendEncode(out, k)
		out = append(out, '\n')
	}
	return out
}

func parseKeyring(data []byte) ([][]byte, error) {
	var out [][]byte
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(string(line))
		if err != nil || len(key) != GossipKeySize {
			return nil, fmt.Errorf("%w: key %d: want %d bytes in base64", signalbox.ErrInvalid, len(out)+1, GossipKeySize)
		}
		out = append(out, key)
	}
	if len(out) == 0 || len(out) > MaxKeyring {
		return nil, fmt.Errorf("%w: %d keys, want 1 to %d, one per line", signalbox.ErrInvalid, len(out), MaxKeyring)
	}
	return out, nil
}

func readKeyring(path string) ([][]byte, error) {
	data, err := readSecret(path)
	if err != nil {
		return nil, fmt.Errorf("read gossip keyring: %w", err)
	}
	keys, err := parseKeyring(data)
	if err != nil {
		return nil, fmt.Errorf("read gossip keyring %s: %w", path, err)
	}
	return keys, nil
}
