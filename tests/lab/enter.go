package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// How a process knows what it was started for.
const (
	stageVariable = "SIGNALBOX_LAB"
	stageInside   = "inside"
	stageShim     = "shim"
	orderVariable = "SIGNALBOX_LAB_SHIM"
)

// Serve is called before anything else in main: where this process is a lab's shim it does not return.
func Serve() {
	if os.Getenv(stageVariable) != stageShim {
		return
	}
	if err := runShim(os.Getenv(orderVariable), os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Enter is called early in main, after Serve: it runs this program again, with the same arguments, in namespaces of its own,
// and ends with its exit code. In there it returns nil. Where namespaces cannot be made it returns ErrRoot.
func Enter() error {
	if os.Getenv(stageVariable) == stageInside {
		return settle()
	}
	if os.Geteuid() != 0 {
		return ErrRoot
	}
	runtime.LockOSThread() // the death of the thread that started it would end the other one
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageVariable+"="+stageInside)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: %w", ErrRoot, err)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may be gone
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "run in namespaces:", err)
	}
	os.Exit(max(cmd.ProcessState.ExitCode(), btoi(err != nil)))
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// settle makes the new namespaces usable: loopback, and mounts that stay in here.
func settle() error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts in the namespace: %w", err)
	}
	if _, err := run("ip", "link", "set", "lo", "up"); err != nil {
		return err
	}
	_, err := run("ip", "addr", "add", Home+"/32", "dev", "lo")
	return err
}

const ownNetwork = "/proc/thread-self/ns/net"

// elsewhere runs f on a thread that may change its network. The thread comes back and is not thrown away: the processes
// that were started from it would end with it.
func elsewhere(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open(ownNetwork)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("come back to the own network: %w", back)) // nobody else gets this thread
	}
	runtime.UnlockOSThread()
	return err
}

// newNetwork makes a namespace with a TUN device in it.
func newNetwork() (network, tun *os.File, err error) {
	err = elsewhere(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		if network, err = os.Open(ownNetwork); err != nil {
			return err
		}
		if tun, err = openTUN(); err != nil {
			_ = network.Close()
		}
		return err
	})
	return network, tun, err
}

func openTUN() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(farDevice)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make TUN device: %w", err)
	}
	return os.NewFile(uintptr(fd), farDevice), nil
}
