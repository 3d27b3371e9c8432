package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// journalSite is a folder with a cluster's keys, a voter's gateway.yaml and the
// journal of that gateway with one block in it.
func journalSite(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	for _, args := range [][]string{{"config", "init"}, {"keys", "init", "--spec", "cluster.yaml"}} {
		if _, errs, code := typed(args...); code != exitOK {
			t.Fatalf("%v: %s", args, errs)
		}
	}
	c, err := loadGatewayConfig("gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	bundle, cluster, err := c.loadBundle()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		t.Fatal(err)
	}
	writeJournal(t, c.State, bundle, cluster)
}

func writeJournal(t *testing.T, dir string, bundle *identity.Bundle, cluster *identity.Cluster) {
	t.Helper()
	scheme, err := signature.FromBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	agent, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	in := signalbox.Instance{Service: "orders", DataCenter: "east", Name: "orders-east-1", Identity: rpc.IdentityOf(public), PublicKey: public}
	proof, err := rpc.SealEnrollment(cluster.Name, in, time.Now(), key, tls.Certificate{PrivateKey: agent, Certificate: [][]byte{{1}}})
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(dir, rpc.Trust{Cluster: cluster.Name, Quorum: scheme}, func([]byte) (signalbox.Instance, error) { return in, nil })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	v := journal.NewVoter(j, scheme, cluster.Epoch, bundle.Self.Name, bundle.Voter, time.Now)
	if _, err := v.Propose(context.Background(), signalbox.Request{Admit: &signalbox.Admission{Instance: in, Enrollment: proof}}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create("backup")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := j.Backup(f); err != nil {
		t.Fatal(err)
	}
}

func typed(args ...string) (out, errs string, code int) {
	var o, e bytes.Buffer
	code = run(args, stdio{strings.NewReader(""), &o, &e})
	return o.String(), e.String(), code
}

// TestJournalVerbs guards that a backup is verified and restored offline, that
// the old journal stays beside it, and that what comes of it says so.
func TestJournalVerbs(t *testing.T) {
	journalSite(t)
	out, errs, code := typed("journal", "verify", "backup", "--keys", "keys")
	if code != exitOK || !strings.Contains(out, "backup: genuine: cluster") || !strings.Contains(out, "1 blocks") {
		t.Fatalf("%d: %s%s", code, out, errs)
	}
	out, errs, code = typed("journal", "verify", "--config", "gateway.yaml")
	if code != exitOK || strings.Contains(out, "Restored") {
		t.Fatalf("%d: %s%s", code, out, errs)
	}
	out, errs, code = typed("journal", "restore", "backup", "--config", "gateway.yaml", "-o", "json")
	var r journalReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitOK || r.Block != 1 || !r.Restored || len(r.Services) != 1 {
		t.Fatalf("%d: %s%s %v", code, out, errs, err)
	}
	if old, err := filepath.Glob(r.File + ".before-restore-*"); err != nil || len(old) != 1 {
		t.Fatal(old, err)
	}
	out, _, _ = typed("journal", "verify", "--config", "gateway.yaml")
	if !strings.Contains(out, "votes again when every other gateway has been asked") {
		t.Fatal(out)
	}
}

// TestJournalVerbsRefuse guards what an operator is told when it does not work.
func TestJournalVerbsRefuse(t *testing.T) {
	journalSite(t)
	if err := os.Truncate("backup", 20000); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"journal", "verify", "backup", "--keys", "keys"}, exitFailure, "it was cut off"},
		{[]string{"journal", "restore", "backup"}, exitFailure, "it was cut off"},
		{[]string{"journal", "verify", "none", "--keys", "keys"}, exitFailure, "none"},
		{[]string{"journal", "verify", "--keys", "keys"}, exitUsage, "name the FILE"},
		{[]string{"journal", "restore"}, exitUsage, "accepts 1 arg"},
		{[]string{"journal", "restore", "backup", "--config", "none.yaml"}, exitUsage, "no such file"},
	} {
		if _, errs, code := typed(c.args...); code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%v: exit code %d, %s", c.args, code, errs)
		}
	}
	if out, errs, code := typed("journal", "verify"); code != exitOK {
		t.Fatalf("the journal was touched: %s%s", out, errs)
	}
}
