package execdriver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	execdriver "github.com/signalbox-io/signalbox/membership/agent/driver/exec"
)

// scripts is a driver whose service is a file "up", with commands in shell.
func scripts(t *testing.T, change func(*execdriver.Options)) (driver.Driver, string) {
	t.Helper()
	dir := t.TempDir()
	sh := func(text string) execdriver.Command { return execdriver.Command{"/bin/sh", "-c", text} }
	o := execdriver.Options{
		Service: "subject", Instance: "subject-1", Address: "127.0.0.1:1", Dir: dir, WorkDir: dir,
		Status: sh("test -e up || exit 3"), Promote: sh("touch up"), StepDown: sh("rm -f up"), Stop: sh("rm -f up"),
	}
	if change != nil {
		change(&o)
	}
	return open(t, o), dir
}

// TestStepDownIsChecked: a command that claims to be done while the service
// serves, one that fails and one that says something unreadable close nothing;
// one that is not done yet is asked again, and no position is too long.
func TestStepDownIsChecked(t *testing.T) {
	for what, c := range map[string]struct{ script, says string }{
		"a lie":         {"true", "the status says that the service serves"},
		"a failure":     {"echo no room >&2; exit 9", "exit status 9: no room"},
		"a signal":      {"kill -9 $$", "killed"},
		"no such thing": {"exec /nowhere", "exit status 127"},
		"a position":    {"rm up; echo position=" + strings.Repeat("x", 65), "65 bytes"},
		"not yet":       {"echo x >>asked; test $(wc -l <asked) -gt 2 || exit 75; rm up; echo position=0/3000148", ""},
	} {
		d, dir := scripts(t, func(o *execdriver.Options) { o.StepDown = execdriver.Command{"/bin/sh", "-c", c.script} })
		if err := d.Promote(t.Context(), driver.Promotion{Term: 7}); err != nil {
			t.Fatal(err)
		}
		p, err := d.StepDown(t.Context(), driver.StepDown{Term: 7})
		if c.says == "" {
			if asked, _ := os.ReadFile(filepath.Join(dir, "asked")); err != nil || p.String() != "0/3000148" || len(asked) != 6 {
				t.Errorf("%s: position %s, asked %q, %v", what, p, asked, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q in it", what, err, c.says)
		}
	}
}

// TestEnvironment: what a command is told is what docs/drivers.md says.
func TestEnvironment(t *testing.T) {
	d, dir := scripts(t, func(o *execdriver.Options) {
		o.Promote = execdriver.Command{"/bin/sh", "-c", `env | grep ^SIGNALBOX_ | sort >env; touch up`}
		o.StepDown = execdriver.Command{"/bin/sh", "-c", `echo $SIGNALBOX_DEADLINE >deadline; echo $SIGNALBOX_INCOMING >incoming; rm up`}
	})
	if err := d.Promote(t.Context(), driver.Promotion{Term: 7, Position: driver.Position("0/3000148")}); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("SIGNALBOX_ACTION=promote\nSIGNALBOX_ADDRESS=127.0.0.1:1\nSIGNALBOX_DIR=%s\nSIGNALBOX_INSTANCE=subject-1\n"+
		"SIGNALBOX_POSITION=0/3000148\nSIGNALBOX_SERVICE=subject\nSIGNALBOX_TERM=7\n", dir)
	if got, err := os.ReadFile(filepath.Join(dir, "env")); err != nil || string(got) != want {
		t.Errorf("%v\n%s, want\n%s", err, got, want)
	}
	deadline := time.Now().Add(time.Minute).UTC()
	comes := []driver.Peer{{Name: "subject-2", Address: "10.2.0.9:80"}, {Name: "subject-3"}}
	if _, err := d.StepDown(t.Context(), driver.StepDown{Term: 7, Deadline: deadline, Incoming: comes}); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "incoming")); string(got) != "subject-2=10.2.0.9:80 subject-3=\n" {
		t.Errorf("incoming %q", got)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "deadline")); strings.TrimSpace(string(got)) != deadline.Format(time.RFC3339Nano) {
		t.Errorf("deadline %s, want %s", got, deadline.Format(time.RFC3339Nano))
	}
}

// TestManyIncoming: more names than a system takes in a variable are no reason not
// to step down.
func TestManyIncoming(t *testing.T) {
	d, dir := scripts(t, func(o *execdriver.Options) {
		o.StepDown = execdriver.Command{"/bin/sh", "-c", `echo "<$SIGNALBOX_INCOMING>" >incoming; rm up`}
	})
	if err := d.Promote(t.Context(), driver.Promotion{Term: 7}); err != nil {
		t.Fatal(err)
	}
	comes := make([]driver.Peer, signalbox.MaxRoster)
	for i := range comes {
		comes[i] = driver.Peer{Name: strings.Repeat("n", signalbox.MaxName), Address: strings.Repeat("a", signalbox.MaxAddress)}
	}
	if _, err := d.StepDown(t.Context(), driver.StepDown{Term: 7, Incoming: comes}); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "incoming")); string(got) != "<>\n" {
		t.Errorf("incoming has %d bytes", len(got))
	}
}

// TestCommandsAreBounded: in time, with everything that they started, and in
// what they say, which is recorded.
func TestCommandsAreBounded(t *testing.T) {
	d, dir := scripts(t, func(o *execdriver.Options) {
		o.Timeout = 5 * time.Second // what is to be seen of a command has to happen in it
		o.Promote = execdriver.Command{"/bin/sh", "-c", `trap "" TERM; sleep 1000 & echo $! >pid; wait; sleep 1000`}
		o.StepDown = execdriver.Command{"/bin/sh", "-c", `head -c 300000 /dev/zero | tr '\0' x; echo; echo tail >&2; exit 1`}
	})
	if err := d.Promote(t.Context(), driver.Promotion{Term: 7}); err == nil || !strings.Contains(err.Error(), "more than 5s") {
		t.Errorf("promote: %v", err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "what the command started to end", func() bool {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(raw)) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
	if err := os.WriteFile(filepath.Join(dir, "up"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.StepDown(t.Context(), driver.StepDown{Term: 7}); err == nil || !strings.HasSuffix(err.Error(), "tail") {
		t.Errorf("step down: %v", err)
	}
	said, err := os.ReadFile(filepath.Join(dir, "commands.log"))
	if err != nil || !strings.Contains(string(said), "step-down exit=1") || len(said) > 80_000 {
		t.Errorf("recorded %d bytes, %v", len(said), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.StepDown(ctx, driver.StepDown{Term: 7}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with its context: %v", err)
	}
}

// TestFailedPromotionStops: what a failed promotion may have opened is stopped,
// and its term is used up.
func TestFailedPromotionStops(t *testing.T) {
	d, dir := scripts(t, func(o *execdriver.Options) {
		o.Promote = execdriver.Command{"/bin/sh", "-c", "touch up; exit 1"}
	})
	if err := d.Promote(t.Context(), driver.Promotion{Term: 7}); err == nil {
		t.Fatal("promoted")
	}
	if _, err := os.Stat(filepath.Join(dir, "up")); err == nil {
		t.Error("serves after a promotion that failed")
	}
	if s, err := d.Status(t.Context()); err != nil || s.Master {
		t.Errorf("status %+v, %v", s, err)
	}
}

// TestWhoServesUnasked: one that serves before its service was adopted is master
// of term 0, and one that was started behind the driver's back is seen.
func TestWhoServesUnasked(t *testing.T) {
	d, dir := scripts(t, nil)
	up := filepath.Join(dir, "up")
	if err := os.WriteFile(up, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := d.Status(t.Context()); err != nil || !s.Master || s.Term != 0 {
		t.Errorf("status %+v, %v", s, err)
	}
	if err := d.Promote(t.Context(), driver.Promotion{Term: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.StepDown(t.Context(), driver.StepDown{Term: 1}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(up, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := d.Status(t.Context()); err != nil || !s.Master {
		t.Errorf("status %+v, %v", s, err)
	}
	if _, err := d.StepDown(t.Context(), driver.StepDown{Term: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(up); err == nil {
		t.Error("serves on")
	}
}

// TestOptions: what cannot work is refused before it is needed.
func TestOptions(t *testing.T) {
	c := execdriver.Command{"/bin/true"}
	for what, o := range map[string]execdriver.Options{
		"nothing":          {Dir: "/d"},
		"no status":        {Dir: "/d", Promote: c, StepDown: c},
		"no promote":       {Dir: "/d", Status: c, StepDown: c},
		"no step-down":     {Dir: "/d", Status: c, Promote: c},
		"no directory":     {Status: c, Promote: c, StepDown: c},
		"standby, status":  {Dir: "/d", Run: c, Promote: c, StepDown: c},
		"standby, close":   {Dir: "/d", Run: c, Promote: c, Status: c},
		"nameless program": {Dir: "/d", Run: execdriver.Command{""}},
		"relative program": {Dir: "/d", Run: execdriver.Command{"true"}},
		"negative time":    {Dir: "/d", Run: c, Timeout: -1},
		"empty program":    {Dir: "/d", Run: c, Ready: execdriver.Command{""}},
	} {
		if err := o.Check(); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}
