package identity_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// described is a cluster of n voters in two data centers.
func described(n int) *identity.Cluster {
	c := &identity.Cluster{Format: identity.ClusterFormat, Name: "shop", Epoch: 1}
	c.Unavailable, c.Lying = identity.DefaultFaults(n)
	c.DataCenters = []identity.DataCenter{{Name: "east"}, {Name: "west"}}
	for i := range max(n, 2) {
		dc := &c.DataCenters[i%2]
		g := identity.GatewayAt(string(dc.Name)+"-"+string(rune('a'+i)), "127.0.0.1", 7400+10*i)
		dc.Gateways = append(dc.Gateways, g)
		if i < n {
			c.Voters = append(c.Voters, identity.Voter{Name: g.Name, DataCenter: dc.Name, PublicKey: bytes.Repeat([]byte{byte(i + 1)}, 32)})
		}
	}
	return c
}

// TestFaults guards the numbers of voters: n = 2u + r + 1 with r at most u, a
// quorum is all but u, and two quorums share more than r voters.
func TestFaults(t *testing.T) {
	for n, want := range map[int][2]int{1: {0, 0}, 3: {1, 0}, 4: {1, 1}, 5: {2, 0}, 6: {2, 1}, 7: {3, 0}} {
		c := described(n)
		if err := c.Validate(); err != nil || c.Unavailable != want[0] || c.Lying != want[1] {
			t.Errorf("%d voters: %d unavailable, %d lying, %v", n, c.Unavailable, c.Lying, err)
		}
		if overlap := 2*c.Quorum() - n; overlap <= c.Lying {
			t.Errorf("%d voters: two quorums share %d, and %d may lie", n, overlap, c.Lying)
		}
	}
	for _, n := range []int{0, 2} {
		if described(n).Validate() == nil {
			t.Errorf("%d voters are accepted", n)
		}
	}
}

// TestClusterValidate guards what is believed of a cluster.json.
func TestClusterValidate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*identity.Cluster)
		says   string
	}{
		"format":         {func(c *identity.Cluster) { c.Format = "x" }, "want \"signalbox-cluster/v1\""},
		"name":           {func(c *identity.Cluster) { c.Name = "Shop" }, "cluster name"},
		"no data center": {func(c *identity.Cluster) { c.DataCenters = nil }, "0 data centers"},
		"data center":    {func(c *identity.Cluster) { c.DataCenters[0].Name = "" }, "data center name"},
		"twice":          {func(c *identity.Cluster) { c.DataCenters[1].Name = "east" }, "stands twice"},
		"no gateway":     {func(c *identity.Cluster) { c.DataCenters[1].Gateways = nil }, "0 gateways"},
		"gateway twice":  {func(c *identity.Cluster) { c.DataCenters[1].Gateways[0].Name = "east-a" }, "unique"},
		"address":        {func(c *identity.Cluster) { c.DataCenters[0].Gateways[0].RPC = "here" }, "want host:port"},
		"no address":     {func(c *identity.Cluster) { c.DataCenters[0].Gateways[0].XDS = "" }, "xds"},
		"port 0":         {func(c *identity.Cluster) { c.DataCenters[0].Gateways[0].API = "here:0" }, "1 to 65535"},
		"voter's home":   {func(c *identity.Cluster) { c.Voters[0].DataCenter = "west" }, "no gateway of data center"},
		"unknown voter":  {func(c *identity.Cluster) { c.Voters[0].Name = "other" }, "no gateway"},
		"voter's key":    {func(c *identity.Cluster) { c.Voters[0].PublicKey = []byte{1} }, "1 bytes"},
		"same key":       {func(c *identity.Cluster) { c.Voters[1].PublicKey = c.Voters[0].PublicKey }, "twice"},
		"too lenient":    {func(c *identity.Cluster) { c.Unavailable = 2 }, "2u + r + 1"},
		"more liars":     {func(c *identity.Cluster) { c.Unavailable, c.Lying = 0, 2 }, "r at most u"},
		"negative":       {func(c *identity.Cluster) { c.Unavailable, c.Lying = 2, -2 }, "2u + r + 1"},
	} {
		broken := described(3)
		c.change(broken)
		if err := broken.Validate(); !errors.Is(err, signalbox.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want it to say %q", name, err, c.says)
		}
	}
}

// TestClusterComesBack guards cluster.json's format, and that nothing in it is
// ignored.
func TestClusterComesBack(t *testing.T) {
	c := described(4)
	data, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := identity.ParseCluster(data)
	if err != nil {
		t.Fatal(err)
	}
	if other, _ := again.Encode(); !bytes.Equal(data, other) {
		t.Errorf("comes back as\n%s\nwant\n%s", other, data)
	}
	v := c.Voters[2]
	if got := again.VoterKey(rpc.IdentityOf(v.PublicKey)); !bytes.Equal(got, v.PublicKey) || again.VoterKey("x") != nil {
		t.Error("a voter's key is not found by its fingerprint")
	}
	for name, bad := range map[string]string{
		"unknown field": strings.Replace(string(data), `"epoch"`, `"quorum": 1, "epoch"`, 1),
		"two documents": string(data) + "{}",
		"cut":           string(data[:len(data)/2]),
		"empty":         "",
	} {
		if _, err := identity.ParseCluster([]byte(bad)); !errors.Is(err, signalbox.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzParseCluster guards that no cluster.json makes the reader panic, and that
// what is accepted can be written.
func FuzzParseCluster(f *testing.F) {
	for _, n := range []int{1, 4} {
		data, err := described(n).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := identity.ParseCluster(data); err == nil {
			if _, err := c.Encode(); err != nil {
				t.Error(err)
			}
		}
	})
}
