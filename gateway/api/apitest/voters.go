package apitest

import (
	"context"
	"fmt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/rpc"
)

// Voters implements api.Electorate.
func (f *Fake) Voters(context.Context) (api.Voters, error) {
	key := func(n byte) []byte { return append(make([]byte, 31), n) }
	v := func(name string, n byte) api.VoterKeys {
		return api.VoterKeys{Name: name, DataCenter: name[:4], PublicKey: key(n)}
	}
	next := v("west-2", 9)
	return api.Voters{
		Epoch: 1, Unavailable: 1, Quorum: 2, Scheme: "ed25519-list", Voters: []api.VoterKeys{v("east-1", 1), v("east-2", 2), v("west-1", 3)},
		Gateways: []api.VoterOffer{{Name: "west-2", DataCenter: "west", Reached: true, LogIndex: 12, CaughtUp: true, Next: &next}},
	}, nil
}

// CheckVoters implements api.Electorate.
func (f *Fake) CheckVoters(_ context.Context, request []byte) error {
	r, err := rpc.DecodeRequest(request)
	if err == nil && r.Voters == nil {
		err = fmt.Errorf("%w: the request is no change of voters", signalbox.ErrInvalid)
	}
	return err
}

// ChangeVoters implements api.Electorate.
func (f *Fake) ChangeVoters(ctx context.Context, request []byte) (api.Voters, error) {
	if err := f.CheckVoters(ctx, request); err != nil {
		return api.Voters{}, err
	}
	return f.Voters(ctx)
}
