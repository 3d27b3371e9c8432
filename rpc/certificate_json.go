package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// CertificateFormat names the JSON document of a certificate.
const CertificateFormat = "signalbox-certificate/v1"

// MaxCertificateDocument is the largest certificate document, in bytes.
const MaxCertificateDocument = 4 * MaxCertificate

// A CertificateDocument is a certificate as JSON, as the API and the command
// line hand it out. Only Certificate counts: everything else repeats it for
// people and is not trusted by anybody who verifies.
type CertificateDocument struct {
	Format string `json:"format"`
	// Certificate is the certificate verbatim, base64 in JSON.
	Certificate []byte `json:"certificate"`

	Note       string                `json:"note"`
	Cluster    string                `json:"cluster"`
	Service    signalbox.Service     `json:"service"`
	Term       signalbox.Term        `json:"term"`
	DataCenter signalbox.DataCenter  `json:"data_center"`
	Fallback   bool                  `json:"fallback"`
	Handover   string                `json:"handover"`
	From       signalbox.DataCenter  `json:"from,omitempty"`
	To         signalbox.DataCenter  `json:"to"`
	Block      string                `json:"block"`
	Index      uint64                `json:"index"`
	At         time.Time             `json:"at"`
	By         string                `json:"by,omitempty"`
	Reason     string                `json:"reason,omitempty"`
	Evidence   []CertificateEvidence `json:"evidence"`
}

// CertificateEvidence is one line of evidence, for people.
type CertificateEvidence struct {
	Instance   string               `json:"instance"`
	DataCenter signalbox.DataCenter `json:"data_center"`
	Identity   signalbox.Identity   `json:"identity"`
	Kind       string               `json:"kind"`
	// Position is what its data had reached, as its driver said.
	Position string `json:"position,omitempty"`
	// By names who signed in the instance's place: voters, gateways, an operator.
	By []string `json:"by,omitempty"`
	// Plugin fenced it; Output is the SHA-256 of what it said, hexadecimal.
	Plugin string `json:"plugin,omitempty"`
	Output string `json:"output,omitempty"`
	// Reason is why an operator attested, At when by the operator's clock.
	Reason string     `json:"reason,omitempty"`
	At     *time.Time `json:"at,omitempty"`
}

// NewCertificateDocument describes a verified certificate.
func NewCertificateDocument(c *signalbox.Certificate) CertificateDocument {
	h := c.Handover()
	d := CertificateDocument{
		Format: CertificateFormat, Certificate: c.Raw,
		Note:    "only the field certificate counts: signalbox verify FILE --keys cluster.json",
		Cluster: c.Block.Cluster, Service: c.Service, Term: c.Term, DataCenter: c.DataCenter(), Fallback: c.IsFallback(),
		Handover: h.ID, From: h.From, To: h.To, Block: fmt.Sprintf("%x", c.Block.Digest[:]), Index: c.Block.Index,
		At: c.Block.At.UTC(), By: h.By, Reason: h.Reason, Evidence: []CertificateEvidence{},
	}
	for _, e := range c.Evidence {
		entry, _ := h.Entry(e.Identity)
		line := CertificateEvidence{
			Instance: entry.Name, DataCenter: entry.DataCenter, Identity: e.Identity, Kind: e.Kind.String(),
			Position: e.Position.String(),
		}
		line.witness(e.Witness)
		d.Evidence = append(d.Evidence, line)
	}
	return d
}

func (e *CertificateEvidence) witness(w *signalbox.Witness) {
	if w == nil {
		return
	}
	e.By, e.Plugin, e.Reason = w.By, w.Plugin, w.Reason
	if !w.Output.IsZero() {
		e.Output = fmt.Sprintf("%x", w.Output[:])
	}
	if !w.At.IsZero() {
		at := w.At.UTC()
		e.At = &at
	}
}

// EncodeCertificateJSON returns the certificate's JSON document.
func EncodeCertificateJSON(c *signalbox.Certificate) ([]byte, error) {
	data, err := json.MarshalIndent(NewCertificateDocument(c), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode certificate document: %w", err)
	}
	return append(data, '\n'), nil
}

// DecodeCertificateJSON takes the certificate's bytes out of a JSON document,
// or returns data itself when it is no JSON: certificates are exchanged raw as
// well. Nothing is verified; that is OpenCertificate's.
func DecodeCertificateJSON(data []byte) ([]byte, error) {
	if len(data) > MaxCertificateDocument {
		return nil, fmt.Errorf("%w: certificate document has %d bytes, at most %d", signalbox.ErrInvalid, len(data), MaxCertificateDocument)
	}
	// A raw certificate begins with a service's name: its third byte is a
	// letter or digit, so it is never taken for JSON.
	if trimmed := bytes.TrimSpace(data); len(trimmed) == 0 || trimmed[0] != '{' {
		return data, nil
	}
	var d struct {
		Format      string `json:"format"`
		Certificate []byte `json:"certificate"`
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("%w: certificate document: %w", signalbox.ErrInvalid, err)
	}
	if d.Format != CertificateFormat {
		return nil, fmt.Errorf("%w: certificate document of format %.60q, want %q", signalbox.ErrInvalid, d.Format, CertificateFormat)
	}
	if len(d.Certificate) == 0 || len(d.Certificate) > MaxCertificate {
		return nil, fmt.Errorf("%w: certificate document's certificate has %d bytes, at most %d", signalbox.ErrInvalid, len(d.Certificate), MaxCertificate)
	}
	return d.Certificate, nil
}

// QuorumOf returns the scheme and the combined signature of a decided block.
// OpenBlock has verified it; this is for saying who signed.
func QuorumOf(b *signalbox.DecidedBlock) (scheme string, signature []byte, err error) {
	var m wire.QuorumEnvelope
	if err := proto.Unmarshal(b.Raw, &m); err != nil {
		return "", nil, fmt.Errorf("%w: decided block: %w", signalbox.ErrInvalid, err)
	}
	return m.Scheme, m.Signature, nil
}
