package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"signalbox": main})
}

// exits is the script's command
//
//	exits CODE signalbox ARGUMENT...
//
// It runs signalbox, which has to end with exactly this exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("got exit code %d, want %s", code, args[0])
	}
}

// TestScript runs the real command line: what a person types, sees and gets as
// exit code (design, section 7).
func TestScript(t *testing.T) {
	envoy := os.Getenv("ENVOY")
	if envoy == "" {
		var err error
		if envoy, err = filepath.Abs("../../.tools/bin/envoy"); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("ENVOY", envoy)
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"certificate": makeCertificate, "exits": exits, "addresses": addresses, "awaits": awaits, "twice": changeTwice,
		},
	})
}

// makeCertificate is the script's command
//
//	certificate KEYS forward|fallback FILE.json|FILE.raw
//
// It makes a certificate of orders as the cluster's voters would have.
func makeCertificate(ts *testscript.TestScript, _ bool, args []string) {
	keys, kind, file := ts.MkAbs(args[0]), args[1], ts.MkAbs(args[2])
	cert, err := certify(keys, kind == "fallback")
	ts.Check(err)
	data := cert.Raw
	if filepath.Ext(file) == ".json" {
		data, err = rpc.EncodeCertificateJSON(cert)
		ts.Check(err)
	}
	ts.Check(os.WriteFile(file, data, 0o600))
}

func certify(keys string, fallback bool) (*signalbox.Certificate, error) {
	cluster, err := identity.LoadCluster(keys)
	if err != nil {
		return nil, err
	}
	agents := map[string]testInstance{"orders-east-1": newTestInstance(1), "orders-east-2": newTestInstance(2)}
	h := &signalbox.Handover{
		ID: "orders-8", Service: "orders", Term: 8, Fallback: 9, From: "east", To: "west", Allowed: signalbox.AckOnly,
		Incoming: []signalbox.Identity{newTestInstance(3).identity()}, By: "ada", Reason: "maintenance of east",
	}
	for _, name := range sortedKeys(agents) {
		h.Roster = append(h.Roster, signalbox.RosterEntry{
			Identity: agents[name].identity(), PublicKey: agents[name].public(), Name: name, DataCenter: "east", Admission: 4,
		})
	}
	block, err := rpc.EncodeBlock(&signalbox.Block{
		Cluster: cluster.Name, Epoch: 1, Index: 17, At: time.Unix(1790000000, 0), Requests: []signalbox.Request{{Handover: h}},
	})
	if err != nil {
		return nil, err
	}
	decided, err := sealByVoters(keys, cluster, block)
	if err != nil {
		return nil, err
	}
	kind, term := signalbox.SaysAck, h.Term
	if fallback {
		kind, term = signalbox.SaysRefuse, h.Fallback
	}
	var evidence [][]byte
	for _, name := range sortedKeys(agents) {
		s := signalbox.Statement{Kind: kind, Service: "orders", Term: 8, Block: decided.Digest, Admission: 4}
		e, err := rpc.SealStatement(cluster.Name, s, agents[name].key)
		if err != nil {
			return nil, err
		}
		evidence = append(evidence, e.Envelope)
	}
	trust, err := signature.Trust(cluster)
	if err != nil {
		return nil, err
	}
	return rpc.BuildCertificate(trust, decided, "orders", term, evidence)
}

func sealByVoters(keys string, cluster *identity.Cluster, block []byte) (*signalbox.DecidedBlock, error) {
	var shares []signature.Share
	var list signature.Scheme
	for _, v := range cluster.Voters {
		b, err := identity.Load(filepath.Join(keys, "bundles", "gateway", string(v.DataCenter), v.Name))
		if err != nil {
			return nil, err
		}
		if list, err = signature.FromBundle(b); err != nil {
			return nil, err
		}
		s, err := list.Sign(rpc.SigningInput(rpc.DomainBlock, cluster.Name, block))
		if err != nil {
			return nil, err
		}
		shares = append(shares, s)
	}
	sig, err := list.Combine(shares)
	if err != nil {
		return nil, err
	}
	return rpc.SealBlock(block, list.Name(), sig)
}
