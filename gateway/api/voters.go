package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// An Electorate knows who votes, and has the voters changed.
type Electorate interface {
	// Voters says who votes by this gateway's log, and which gateways could.
	Voters(ctx context.Context) (Voters, error)
	// CheckVoters says what is wrong with a signed change of voters, or nil.
	// ErrRefused, ErrInvalid, ErrUntrusted, ErrConflict.
	CheckVoters(ctx context.Context, request []byte) error
	// ChangeVoters has it decided. Errors as CheckVoters', and ErrUnavailable.
	ChangeVoters(ctx context.Context, request []byte) (Voters, error)
}

// Voters is who decides.
type Voters struct {
	Epoch       uint64       `json:"epoch" doc:"Numbers the voter set; each change makes the next one"`
	Unavailable int          `json:"unavailable" doc:"How many voters may be away (u)"`
	Lying       int          `json:"lying" doc:"How many of those may lie (r); the voters number 2u + r + 1"`
	Quorum      int          `json:"quorum" doc:"How many have to sign"`
	Scheme      string       `json:"scheme" doc:"How their signatures are combined"`
	Survives    bool         `json:"survives_data_center" doc:"Losing any single data center leaves a quorum"`
	Voters      []VoterKeys  `json:"voters" nullable:"false"`
	Gateways    []VoterOffer `json:"gateways" nullable:"false" doc:"All gateways, with the keys that they would vote with after a change"`
}

// VoterKeys is a voter by its public keys.
type VoterKeys struct {
	Name           string `json:"name"`
	DataCenter     string `json:"data_center"`
	PublicKey      []byte `json:"public_key" doc:"Ed25519, base64"`
	SignatureKey   []byte `json:"signature_key,omitempty" doc:"Of a scheme that has keys of its own"`
	SignatureProof []byte `json:"signature_proof,omitempty"`
	Proof          []byte `json:"proof,omitempty" doc:"The voter's own signature over its name and keys"`
}

// VoterOffer is a gateway as it could vote.
type VoterOffer struct {
	Name       string     `json:"name"`
	DataCenter string     `json:"data_center"`
	Votes      bool       `json:"votes"`
	Reached    bool       `json:"reached" doc:"This gateway can reach it"`
	LogIndex   uint64     `json:"log_index" doc:"The newest block of its log"`
	CaughtUp   bool       `json:"caught_up" doc:"Its log is as new as this gateway's"`
	Next       *VoterKeys `json:"next,omitempty" doc:"A new key that it offers to vote with; absent while it offers none"`
}

// A VotersRequest changes the voters.
type VotersRequest struct {
	Request []byte `json:"request" doc:"The change, signed by an operator's key: an encoded signalbox.v1.Request, base64"`
	DryRun  bool   `json:"dry_run,omitempty" doc:"Say whether it would be taken, and change nothing"`
}

type votersInput struct {
	Key  string `header:"Idempotency-Key" maxLength:"128" doc:"Makes the request safe to repeat, also at another gateway"`
	Body VotersRequest
}

func (s *server) registerVoters(api huma.API) {
	huma.Register(api, operation("voters", http.MethodGet, "/v1/voters", "voters", "Show who votes, and who could",
		"By this gateway's log. The keys are those that the next change may name.", CodeUnavailable), answering(s.voters))
	huma.Register(api, operation("change-voters", http.MethodPost, "/v1/voters", "voters", "Change the voters",
		"Has a change decided by the voters of now; the blocks after it are decided by the new ones. An operator's key signs it: `signalbox gateway voters change` makes it.",
		CodeConflict, CodeRefused, CodeNotReady, CodeUnavailable, CodeTooLarge), answering(s.changeVoters))
}

func (s *server) voters(ctx context.Context, _ *struct{}) (*reply[Voters], error) {
	v, err := s.options.Electorate.Voters(ctx)
	return &reply[Voters]{wholeVoters(v)}, err
}

func wholeVoters(v Voters) Voters {
	v.Voters, v.Gateways = some(v.Voters), some(v.Gateways)
	return v
}

func (s *server) changeVoters(ctx context.Context, in *votersInput) (*reply[Voters], error) {
	if n := len(in.Body.Request); n == 0 || n > rpc.MaxBlock/2 {
		return nil, fmt.Errorf("%w: a change of %d bytes: 1 to %d", signalbox.ErrInvalid, n, rpc.MaxBlock/2)
	}
	if in.Body.DryRun {
		if err := s.options.Electorate.CheckVoters(ctx, in.Body.Request); err != nil {
			return nil, err
		}
		return s.voters(ctx, nil)
	}
	v, err := s.options.Electorate.ChangeVoters(ctx, in.Body.Request)
	return &reply[Voters]{wholeVoters(v)}, err
}
