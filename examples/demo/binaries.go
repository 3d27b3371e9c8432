package demo

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Binaries are the paths of what a site runs.
type Binaries struct {
	Signalbox, Orders, Envoy string
}

// FindBinaries looks for the example service beside the given signalbox binary and for Envoy in $ENVOY, on the PATH and
// in .tools/ of the folders above signalbox and above the working directory. Errors say what to do.
func FindBinaries(signalbox string) (Binaries, error) {
	signalbox, err := filepath.Abs(signalbox) // processes have working directories of their own
	if err != nil {
		return Binaries{}, err
	}
	b := Binaries{Signalbox: signalbox, Orders: filepath.Join(filepath.Dir(signalbox), "orders")}
	var errs []error
	if info, err := os.Stat(b.Signalbox); err != nil || info.IsDir() {
		errs = append(errs, fmt.Errorf("find signalbox: %s is not there: run make build", b.Signalbox))
	}
	if info, err := os.Stat(b.Orders); err != nil || info.IsDir() {
		errs = append(errs, fmt.Errorf("find the example service: %s is not there: run make build, or make demo", b.Orders))
	}
	if b.Envoy, err = FindEnvoy(filepath.Dir(signalbox)); err != nil {
		errs = append(errs, err)
	}
	return b, errors.Join(errs...)
}

// FindEnvoy returns $ENVOY, else an envoy on the PATH, else the one that make tools put into a checkout: .tools/ in one of
// these folders or above, then above the working directory.
func FindEnvoy(folders ...string) (string, error) {
	if own := os.Getenv("ENVOY"); own != "" {
		found, err := exec.LookPath(own)
		if err != nil {
			return "", fmt.Errorf("find Envoy: $ENVOY: %w: unset it to have make tools install one", err)
		}
		return found, nil
	}
	if found, err := exec.LookPath("envoy"); err == nil {
		return found, nil
	}
	if here, err := os.Getwd(); err == nil {
		folders = append(folders, here)
	}
	for _, folder := range folders {
		for dir := folder; ; dir = filepath.Dir(dir) {
			candidate := filepath.Join(dir, ".tools", "bin", "envoy")
			if _, err := os.Stat(candidate); err == nil {
				return candidate, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", errors.New("find Envoy: it is neither in $ENVOY, nor on the PATH, nor in .tools/: run make tools in the checkout, or set ENVOY to the path of one (1.40 is what this was tried with)")
}
