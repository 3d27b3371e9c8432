package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// TestVotersOfTheLog guards that what a service wants of the voters is held against
// the set that it is given, whatever the bundle says: the log may have changed it.
func TestVotersOfTheLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	text := "bundle: b\nstate: s\nservices:\n  - name: orders\n    failover: {evidence: [lapse, attest]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := loadGatewayConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	cluster := &identity.Cluster{Name: "shop"}
	for _, dc := range []signalbox.DataCenter{"east", "west", "south"} {
		cluster.DataCenters = append(cluster.DataCenters, identity.DataCenter{Name: dc})
	}
	cluster.Voters = []identity.Voter{{Name: "east-1", DataCenter: "east"}}
	voters := func(epoch uint64, u int, names ...string) signalbox.VoterSet {
		set := signalbox.VoterSet{Epoch: epoch, Unavailable: u}
		for _, name := range names {
			dc, _, _ := strings.Cut(name, "-")
			set.Voters = append(set.Voters, signalbox.Voter{Name: name, DataCenter: signalbox.DataCenter(dc)})
		}
		return set
	}
	if err := c.checkVoters(cluster, voters(2, 1, "east-1", "west-1", "south-1")); err != nil {
		t.Errorf("three voters in three data centers: %v", err)
	}
	for _, set := range []signalbox.VoterSet{voters(1, 0, "east-1"), voters(3, 1, "east-1", "east-2", "south-1")} {
		err := c.checkVoters(cluster, set)
		if err == nil || exitCode(err) != exitUsage {
			t.Fatalf("%v: %v", set.Names(), err)
		}
		for _, want := range []string{file + ":5:", "without data center east", "by this gateway's log: " + strings.Join(set.Names(), ", "), "voters change"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
	}
	if err := c.checkFirstVoters(cluster); err == nil || !strings.Contains(err.Error(), "--bundle=false") {
		t.Errorf("by the bundle: %v", err)
	}
}
