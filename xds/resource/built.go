package resource

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	typeurl "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Type URLs of the resources that proxies ask for.
const (
	ListenerType  = typeurl.ListenerType
	RouteType     = typeurl.RouteType
	ClusterType   = typeurl.ClusterType
	EndpointsType = typeurl.EndpointType
)

// Resource is one marshalled resource. It is immutable, so that all proxies
// share it.
type Resource struct {
	Name    string
	Term    uint64 // 0: does not depend on a term
	Rank    uint64 // ParseVersion(Version): what a proxy is never sent less than
	Version string
	Any     *anypb.Any
}

// holdMark stands behind the term in the version of a resource that only
// holds its term.
const holdMark = "h"

// Version is "<term>-<hash of the content>". A control plane compares what it
// has with what a proxy reports before it sends, so that a proxy is never
// sent less than it has, whichever gateway it asks.
func Version(term uint64, content []byte) string {
	h := fnv.New64a()
	_, _ = h.Write(content)
	return strconv.FormatUint(term, 10) + "-" + strconv.FormatUint(h.Sum64(), 16)
}

func holdVersion(version string) string { return strings.Replace(version, "-", holdMark+"-", 1) }

// ParseVersion returns the term that a version carries, and its rank, by
// which versions of one name are ordered: by term, and the hold of a term
// before its release. ok is false when the version was not made here.
func ParseVersion(version string) (term, rank uint64, ok bool) {
	digits, hash, found := strings.Cut(version, "-")
	if !found || hash == "" || len(hash) > 16 {
		return 0, 0, false
	}
	digits, hold := strings.CutSuffix(digits, holdMark)
	term, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || term > maxTerm || (hold && term == 0) {
		return 0, 0, false
	}
	rank = rankOf(term)
	if hold {
		rank--
	}
	return term, rank, true
}

// maxTerm keeps a rank within 64 bits; Validate holds a service to it.
const maxTerm = 1 << 62

func rankOf(term uint64) uint64 { return 2 * term }

func build(name string, term uint64, m proto.Message) (*Resource, error) {
	a, err := pack(m)
	if err != nil {
		return nil, fmt.Errorf("marshal resource %s: %w", name, err)
	}
	return &Resource{Name: name, Term: term, Rank: rankOf(term), Version: Version(term, a.Value), Any: a}, nil
}

func pack(m proto.Message) (*anypb.Any, error) {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: typeurl.APITypePrefix + string(m.ProtoReflect().Descriptor().FullName()), Value: value}, nil
}

// mustPack is for messages that hold no text from outside: marshalling them
// cannot fail.
func mustPack(m proto.Message) *anypb.Any {
	a, err := pack(m)
	if err != nil {
		panic(fmt.Sprintf("marshal %T: %v", m, err))
	}
	return a
}
