package oracle

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func file(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "log.jsonl")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const (
	writeLine   = `{"id":"a","term":7,"begin_ns":1,"end_ns":2,"service":"orders","instance":"east-1","data_center":"east"}`
	requestLine = `{"id":"a","method":"POST","target":"east","status":201,"sched_ns":0,"begin_ns":0,"end_ns":3,"instance":"east-1","term":7}`
)

// Rule: the formats of the instances' and the load generator's logs are read
// as they are written, and fields of no interest are passed over.
func TestReadFormats(t *testing.T) {
	h, err := Read(Files{
		WriteLogs: []string{file(t, writeLine+"\n"), file(t, "")},
		LoadLogs:  []string{file(t, requestLine+"\n")},
		Certified: []Certified{{"orders", 7, "east"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := History{
		Writes:    []Write{{ID: "a", Service: "orders", Instance: "east-1", DataCenter: "east", Term: 7, Begin: 1, End: 2}},
		Requests:  []Request{{ID: "a", Method: "POST", Status: 201, Begin: 0, End: 3, Instance: "east-1", Term: 7}},
		Certified: []Certified{{"orders", 7, "east"}},
	}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("%+v", h)
	}
	if v := Judge(h); !v.OK() {
		t.Errorf("%+v", v)
	}
}

// Rule: the last line of a killed process may be cut short anywhere; it is
// left out and counted.
func TestTruncatedLastLine(t *testing.T) {
	for cut := range len(writeLine) {
		h, err := Read(Files{WriteLogs: []string{file(t, writeLine+"\n"+writeLine[:cut])}})
		want := 1
		if cut == 0 {
			want = 0
		}
		if err != nil || len(h.Writes) != 1 || h.Truncated != want || Judge(h).Truncated != want {
			t.Fatalf("cut after %d: %+v, %v", cut, h, err)
		}
	}
	h, err := Read(Files{WriteLogs: []string{file(t, writeLine)}})
	if err != nil || len(h.Writes) != 1 || h.Truncated != 0 {
		t.Errorf("only its end missing: %+v, %v", h, err)
	}
}

// Rule: any other garbage is an error that names file and line.
func TestGarbage(t *testing.T) {
	for name, garbage := range map[string]string{
		"no JSON":    "what?\n",
		"no object":  "17\n",
		"null":       "null\n",
		"empty line": "\n",
		"cut short":  writeLine[:20] + "\n",
		"wrong type": `{"id":"a","term":"seven"}` + "\n",
		"negative":   `{"id":"a","term":-7}` + "\n",
		"two in one": writeLine + writeLine + "\n",
		"too long":   `{"id":"` + strings.Repeat("a", MaxLine) + `"}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, writeLine+"\n"+garbage+writeLine+"\n")
			if _, err := Read(Files{WriteLogs: []string{path}}); err == nil || !strings.Contains(err.Error(), path+":2: ") {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := Read(Files{LoadLogs: []string{"/nowhere"}}); err == nil {
		t.Error("a missing file was read")
	}
}
