package tidy

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGeneratedIsCurrent guards that the committed protobuf code is what the .proto files say: it generates them anew
// beside the tree and compares. protoc's own version in the header may differ.
func TestGeneratedIsCurrent(t *testing.T) {
	top, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	repo, err := loadTree(top)
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	cmd := exec.Command("make", "--no-print-directory", "generate", "GENERATE_OUT="+out)
	cmd.Dir = top
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make generate: %v (make tools installs what it needs)\n%s", err, said)
	}
	for p, committed := range repo.files {
		if !strings.HasSuffix(p, ".pb.go") {
			continue
		}
		fresh, err := os.ReadFile(filepath.Join(out, filepath.FromSlash(p)))
		if err != nil {
			t.Errorf("%s comes from no .proto file: remove it (%v)", p, err)
			continue
		}
		if !bytes.Equal(withoutVersions(fresh), withoutVersions(committed)) {
			t.Errorf("%s is not what its .proto file says now: make generate", p)
		}
	}
	err = filepath.WalkDir(out, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(out, p)
		if err == nil && repo.files[filepath.ToSlash(rel)] == nil {
			t.Errorf("%s is not committed: make generate", rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// withoutVersions drops the header's lines with versions: what matters is the code.
func withoutVersions(code []byte) []byte {
	var out []byte
	for line := range bytes.Lines(code) {
		if bytes.HasPrefix(line, []byte("//")) && bytes.Contains(line, []byte("protoc")) {
			continue
		}
		out = append(out, line...)
	}
	return out
}
