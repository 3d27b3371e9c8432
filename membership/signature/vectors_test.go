package signature

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestHashToCurve holds the hash against RFC 9380, appendix J.9.1, the suite
// BLS12381G1_XMD:SHA-256_SSWU_RO_ that the signature draft builds on.
func TestHashToCurve(t *testing.T) {
	const domain = "QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_"
	for message, want := range map[string][2]string{
		"": {"052926add2207b76ca4fa57a8734416c8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1",
			"08ba738453bfed09cb546dbb0783dbb3a5f1f566ed67bb6be0e8c67e2e81a4cc68ee29813bb7994998f3eae0c9c6a265"},
		"abc": {"03567bc5ef9c690c2ab2ecdf6a96ef1c139cc0b2f284dca0a9a7943388a49a3aee664ba5379a7655d3c68900be2f6903",
			"0b9c15f3fe6e5cf4211f346271d7b01c8f3b28be689c8429c85b67af215533311f0b8dfaaa154fa6b88176c229f2885d"},
		"abcdef0123456789": {"11e0b079dea29a68f0383ee94fed1b940995272407e3bb916bbf268c263ddd57a6a27200a784cbc248e84f357ce82d98",
			"03a87ae2caf14e8ee52e51fa2ed8eefe80f02457004ba4d486d6aa1f517c0889501dc7413753f9599b099ebcbbd2d709"},
		"q128_" + strings.Repeat("q", 128): {"15f68eaa693b95ccb85215dc65fa81038d69629f70aeee0d0f677cf22285e7bf58d7cb86eefe8f2e9bc3f8cb84fac488",
			"1807a1d50c29f430b8cafc4f8638dfeeadf51211e1602a5f184443076715f91bb90a48ba1e370edce6ae1062f5e6dd38"},
		"a512_" + strings.Repeat("a", 512): {"082aabae8b7dedb0e78aeb619ad3bfd9277a2f77ba7fad20ef6aabdc6c31d19ba5a6d12283553294c1825c4b3ca2dcfe",
			"05b84ae5a942248eea39e1d91030458c40153f3b654ab7872d779ad1e942856a20c438e8d99bc8abfbf74729ce1f7ac8"},
	} {
		p, err := bls.HashToG1([]byte(message), []byte(domain))
		if err != nil {
			t.Fatal(err)
		}
		x, y := p.X.Bytes(), p.Y.Bytes()
		if got := [2]string{hex.EncodeToString(x[:]), hex.EncodeToString(y[:])}; got != want {
			t.Errorf("%.20q: %v, want %v", message, got, want)
		}
	}
}

// TestKeyGen holds KeyGen of the draft (section 2.3, from version 4 on) against
// the master keys of EIP-2333, which is defined by it.
func TestKeyGen(t *testing.T) {
	for seed, want := range map[string]string{
		"c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04": "6083874454709270928345386274498605044986640685124978867557563392430687146096",
		"3141592653589793238462643383279502884197169399375105820974944592":                                                                 "29757020647961307431480504535336562678282505419141012933316116377660817309383",
		"0099ff991111002299dd7744ee3355bbdd8844115566cc55663355668888cc00":                                                                 "27580842291869792442942448775674722299803720648445448686099262467207037398656",
		"d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3":                                                                 "19022158461524446591288038168518313374041767046816487870552872741050760015818",
	} {
		got, err := deriveMultiKey(unhex(t, seed))
		if err != nil {
			t.Fatal(err)
		}
		if n := new(big.Int).SetBytes(got).String(); n != want {
			t.Errorf("seed %.16s: %s, want %s", seed, n, want)
		}
	}
}

// TestDrand holds verification of minimal-size signatures against the public
// randomness beacon "quicknet" (drand), round 1000: the same groups, encodings
// and hash, in the draft's basic scheme (tag ..._NUL_).
func TestDrand(t *testing.T) {
	key, err := parsePublicMultiKey(unhex(t, "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := parseMultiSignature(unhex(t, "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"))
	if err != nil {
		t.Fatal(err)
	}
	for round, want := range map[uint64]bool{1000: true, 1001: false} {
		message := sha256.Sum256(binary.BigEndian.AppendUint64(nil, round))
		if got := fits(&key, message[:], "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_", &sig); got != want {
			t.Errorf("round %d: %v", round, got)
		}
		if fits(&key, message[:], multiDomain, &sig) {
			t.Errorf("round %d: accepted with another tag", round)
		}
	}
}

// TestInternetComputer holds public keys in G2 and sums of signatures in G1
// against the multisignatures of the Internet Computer (dfinity/ic,
// multi_bls12_381.rs). Its hash has another domain, so shares are taken as
// given.
func TestInternetComputer(t *testing.T) {
	vectors := []struct{ secret, public, sig string }{
		{"d9c35fad8d209c951f5facdb23ff9615862ae6c68f4b8b35f90f319c411d638b",
			"abf62cf8f448af4fa2071cc31fcdbe56172d90b2a466ef0a66f3f72c063f4d29192f5f19b5ee7118ad2de65da489efac0366758ddfd009fe07afb6d02c0d201b337d0276d68e04c6c56f531a428c27abb94baaf388d36ecce932843b8ecd9042",
			"a29459b4df8957baf446c278ac13979a54acfca851ba95f49eee0f63198ddabd690508f48aca0d4fd1afd7a5df8b33e7"},
		{"5d35cff694966061a3dce24899dbeaa0dea6b7b5ad646cdf8123bda7ec0bc001",
			"b8c1bd6219c455692b8258236e27cd2a709faa36c974c855e482a25ea97d5d8e45d458ce78aab2e7901a58018e56f6d3196d1ba6432aad831a51cf088d2638909d7e02a62bd828cac5df755ee1a3917a29c986b0b98a1eb2b7205ffdf53a5dac",
			"ac596a8b71c4dde5adc7d5b35ee27a16b6a2b098e4f8022f79f12abd3d8e9d49bd653157bbe1df10bc09731fcc0e7c56"},
	}
	var voters []Voter
	var shares []Share
	for i, v := range vectors {
		k := &multiKey{}
		k.scalar.SetBytes(unhex(t, v.secret)) // there, a secret is reduced
		public, err := k.public()
		if err != nil || hex.EncodeToString(public) != v.public {
			t.Fatalf("public key %x, %v; want %s", public, err, v.public)
		}
		proof, err := k.sign(public, proofDomain)
		if err != nil {
			t.Fatal(err)
		}
		voters = append(voters, Voter{Name: "node", PublicKey: public, Proof: proof})
		shares = append(shares, Share{Voter: i, Signature: unhex(t, v.sig)})
	}
	m, err := NewMulti(voters, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := m.Combine(shares)
	if want := "03" + "a0dee0b8a78ad6ae0a5808c122ed608deaeb2d63550d562a16d4adb12b877880d03b69147ba4d5162e2e1576ad1b6219"; err != nil || hex.EncodeToString(sum) != want {
		t.Errorf("sum %x, %v; want %s", sum, err, want)
	}
}

// TestEthereumPairing holds the library's pairing and sums against a vector of
// ethereum/bls12-381-tests (fast_aggregate_verify). Ethereum has the groups the
// other way round (keys of 48 bytes), so the scheme itself cannot take it: what
// is checked is what the scheme stands on.
func TestEthereumPairing(t *testing.T) {
	var all bls.G1Affine
	for _, s := range []string{
		"a491d1b0ecd9bb917989f0e74f0dea0422eac4a873e5e2644f368dffb9a6e20fd6e10c1b77654d067c0618f6e5a7f79a",
		"b301803f8b5ac4a1133581fc676dfedc60d891dd5fa99028805e5ea5b08d3491af75d0707adab3b70c6a6a580217bf81",
	} {
		p, err := parseMultiSignature(unhex(t, s)) // a point of G1, there a key
		if err != nil {
			t.Fatal(err)
		}
		all.Add(&all, &p)
	}
	sig, err := parsePublicMultiKey(unhex(t, "912c3615f69575407db9392eb21fee18fff797eeb2fbe1816366ca2a08ae574d8824dbfafb4c9eaa1cf61b63c6f9b69911f269b664c42947dd1b53ef1081926c1e82bb2a465f927124b08391a5249036146d6f3f1e17ff5f162f779746d830d1"))
	if err != nil {
		t.Fatal(err)
	}
	_, _, g1, _ := bls.Generators()
	g1.Neg(&g1)
	for fill, want := range map[byte]bool{0x56: true, 0x57: false} {
		point, err := bls.HashToG2(bytes.Repeat([]byte{fill}, 32), []byte("BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"))
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := bls.PairingCheck([]bls.G1Affine{g1, all}, []bls.G2Affine{sig, point}); err != nil || ok != want {
			t.Errorf("message of %#x: %v, %v", fill, ok, err)
		}
	}
}

// TestEthereumEncodings holds the decoders of points against the names and
// bytes of ethereum/bls12-381-tests, deserialization_G1 and deserialization_G2,
// whose encodings are the same whatever a point is used for. One differs on
// purpose: there the identity is read and refused later, here at once.
func TestEthereumEncodings(t *testing.T) {
	const count, order = "0123456789abcdef", "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab"
	zeros := func(n int) string { return strings.Repeat("00", n) }
	counts := func(first string, n int) string { return first + strings.Repeat(count, n/8)[2:] }
	beyond, flagged := order[:95]+"c", "9"+order[1:]
	cases := func(n int) map[string]string {
		return map[string]string{
			"infinity_with_false_b_flag": "80" + zeros(n-1), "infinity_with_true_b_flag": "c010" + zeros(n-2),
			"not_in_subgroup": counts("81", n), "not_in_curve": counts("81", n)[:2*n-1] + "0",
			"too_few_bytes": counts("81", n)[:2*n-2], "too_many_bytes": counts("81", n) + "ff",
			"with_b_flag_and_a_flag_true": "e0" + zeros(n-1), "with_b_flag_and_x_nonzero": counts("c1", n),
			"with_wrong_c_flag": counts("01", n), "infinity (here)": "c0" + zeros(n-1),
		}
	}
	g1, g2 := cases(48), cases(96)
	g1["x_equal_to_modulus"], g1["x_greater_than_modulus"] = flagged, "9"+beyond[1:]
	g2["xim_equal_to_modulus"], g2["xim_greater_than_modulus"] = flagged+zeros(48), "9"+beyond[1:]+zeros(48)
	g2["xre_equal_to_modulus"], g2["xre_greater_than_modulus"] = "80"+zeros(47)+order, "80"+zeros(47)+beyond
	for name, s := range g1 {
		if _, err := parseMultiSignature(unhex(t, s)); err == nil {
			t.Errorf("G1 %s: accepted", name)
		}
	}
	for name, s := range g2 {
		if _, err := parsePublicMultiKey(unhex(t, s)); err == nil {
			t.Errorf("G2 %s: accepted", name)
		}
	}
	good1 := unhex(t, "a491d1b0ecd9bb917989f0e74f0dea0422eac4a873e5e2644f368dffb9a6e20fd6e10c1b77654d067c0618f6e5a7f79a")
	good2 := unhex(t, "b2cc74bc9f089ed9764bbceac5edba416bef5e73701288977b9cac1ccb6964269d4ebf78b4e8aa7792ba09d3e49c8e6a1351bdf582971f796bbaf6320e81251c9d28f674d720cca07ed14596b96697cf18238e0e03ebd7fc1353d885a39407e0")
	for more := range 2 {
		if _, err := parseMultiSignature(append(bytes.Clone(good1), make([]byte, more)...)); (err == nil) != (more == 0) {
			t.Errorf("G1 correct_point and %d bytes: %v", more, err)
		}
		if _, err := parsePublicMultiKey(append(bytes.Clone(good2), make([]byte, more)...)); (err == nil) != (more == 0) {
			t.Errorf("G2 correct_point and %d bytes: %v", more, err)
		}
	}
}

// TestBlind guards that the key is never what a multiplication gets: its two
// factors are new each time and only their product is the key.
func TestBlind(t *testing.T) {
	k := &multiKey{}
	k.scalar.SetUint64(4711)
	seen := map[string]bool{"4711": true, "1": true}
	for range 64 {
		first, second, err := k.blind()
		if err != nil {
			t.Fatal(err)
		}
		if seen[first.String()] || seen[second.String()] {
			t.Fatal("a factor is the key, one or an old one")
		}
		seen[first.String()], seen[second.String()] = true, true
		if p := first.Mul(first, second); p.Mod(p, fr.Modulus()).Uint64() != 4711 {
			t.Fatal("the factors' product is another key")
		}
	}
}
