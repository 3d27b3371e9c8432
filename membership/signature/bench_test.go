package signature_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/membership/signature"
)

// The schemes side by side for growing voter sets, each with a quorum of all
// but (n-1)/3; DESIGN.md has the figures and draws the line.
func schemes(b *testing.B, run func(b *testing.B, scheme func(t testing.TB, n, quorum, self int) signature.Scheme, n, quorum int)) {
	for _, n := range []int{1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 40, 64} {
		for _, s := range []struct {
			name string
			make func(t testing.TB, n, quorum, self int) signature.Scheme
		}{{"list", list}, {"multi", multi}} {
			b.Run(fmt.Sprintf("n=%d/%s", n, s.name), func(b *testing.B) { run(b, s.make, n, n-(n-1)/3) })
		}
	}
}

func BenchmarkVerifyQuorum(b *testing.B) {
	schemes(b, func(b *testing.B, scheme func(t testing.TB, n, quorum, self int) signature.Scheme, n, quorum int) {
		s := scheme(b, n, quorum, -1)
		sig, err := s.Combine(benchShares(b, scheme, n, quorum))
		if err != nil {
			b.Fatal(err)
		}
		fastest := time.Hour // the mean is the neighbours' on a machine that is not quiet
		for b.Loop() {
			start := time.Now()
			if err := s.VerifyQuorum(s.Name(), message, sig); err != nil {
				b.Fatal(err)
			}
			fastest = min(fastest, time.Since(start))
		}
		b.ReportMetric(float64(fastest.Nanoseconds()), "fastest-ns")
		b.ReportMetric(float64(quorum), "signers")
		b.ReportMetric(float64(len(sig)), "bytes")
	})
}

func BenchmarkCombine(b *testing.B) {
	schemes(b, func(b *testing.B, scheme func(t testing.TB, n, quorum, self int) signature.Scheme, n, quorum int) {
		s, shares := scheme(b, n, quorum, -1), benchShares(b, scheme, n, quorum)
		for b.Loop() {
			if _, err := s.Combine(shares); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// benchShares are of the voters with the highest numbers.
func benchShares(b *testing.B, scheme func(t testing.TB, n, quorum, self int) signature.Scheme, n, quorum int) (shares []signature.Share) {
	for i := n - quorum; i < n; i++ {
		s, err := scheme(b, i+1, i+1, i).Sign(message)
		if err != nil {
			b.Fatal(err)
		}
		shares = append(shares, s)
	}
	return shares
}

func BenchmarkShare(b *testing.B) {
	for name, scheme := range map[string]func(t testing.TB, n, quorum, self int) signature.Scheme{"list": list, "multi": multi} {
		s := scheme(b, 4, 3, 0)
		share, err := s.Sign(message)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/sign", func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Sign(message); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/verify", func(b *testing.B) {
			for b.Loop() {
				if err := s.VerifyShare(message, share); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEnroll is what reading a cluster's description costs: every voter's
// key and proof.
func BenchmarkEnroll(b *testing.B) {
	for _, n := range []int{4, 31} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			for b.Loop() {
				multi(b, n, n, -1)
			}
		})
	}
}
