package rpc

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signalbox-io/signalbox"
)

// sentinels maps the vocabulary's errors to gRPC codes and back; every code
// stands once.
var sentinels = []struct {
	err  error
	code codes.Code
}{
	{signalbox.ErrInvalid, codes.InvalidArgument},
	{signalbox.ErrConflict, codes.Aborted},
	{signalbox.ErrExpectation, codes.OutOfRange},
	{signalbox.ErrRefused, codes.FailedPrecondition},
	{signalbox.ErrNotReady, codes.ResourceExhausted},
	{signalbox.ErrUnknown, codes.NotFound},
	{signalbox.ErrUntrusted, codes.PermissionDenied},
	{signalbox.ErrUnsigned, codes.Unauthenticated},
	{signalbox.ErrNotConfigured, codes.Unimplemented},
	{signalbox.ErrUnavailable, codes.Unavailable},
}

// ToStatus turns an error into a gRPC status that FromStatus turns back.
func ToStatus(err error) error {
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return status.Error(s.code, err.Error())
		}
	}
	return err
}

// FromStatus gives an error from a gRPC call its sentinel back.
func FromStatus(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	for _, s := range sentinels {
		if st.Code() == s.code {
			return &remoteError{sentinel: s.err, text: st.Message()}
		}
	}
	return fmt.Errorf("%w: %s", signalbox.ErrUnavailable, st.Message())
}

// remoteError says what the other side said, once.
type remoteError struct {
	sentinel error
	text     string
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.sentinel }
