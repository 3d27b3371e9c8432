package agent

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/signalbox-io/signalbox"
)

const (
	maxKeyFile = 4 << 10 // bytes
	keyBlock   = "PRIVATE KEY"
)

// readKey reads the instance's key, PEM with PKCS #8. The error wraps ErrInvalid
// when what is there is no such key.
func readKey(path string) (ed25519.PrivateKey, error) {
	raw, err := readBounded(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != keyBlock {
		return nil, fmt.Errorf("%w: %s holds no PEM private key", signalbox.ErrInvalid, path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", signalbox.ErrInvalid, path, err)
	}
	instance, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: %s holds no Ed25519 key", signalbox.ErrInvalid, path)
	}
	return instance, nil
}

func (s *store) writeKey() error {
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		return fmt.Errorf("encode instance key: %w", err)
	}
	return s.replace(keyFile, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}))
}
