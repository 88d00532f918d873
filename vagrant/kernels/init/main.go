// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command init is the only process of the small virtual machines in which the
// privileged tests run on other kernels: it mounts what they need, loads the
// modules beside it, runs each test binary and powers the machine off.
//
// Its last line, "KERNELTEST <release> ok" or "KERNELTEST <release> failed",
// is what the host waits for: a serial console carries no exit status.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	failed := false
	for _, step := range []func() error{mountAll, loopbackUp, loadModules, runTests} {
		if err := step(); err != nil {
			fmt.Println("init:", err)
			failed = true
			break
		}
	}
	word := "ok"
	if failed {
		word = "failed"
	}
	fmt.Printf("\nKERNELTEST %s %s\n", release(), word)
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("init: power off:", err)
	}
	select {}
}

func mountAll() error {
	for _, m := range []struct{ fs, dir string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"},
		{"tmpfs", "/run"}, {"bpf", "/sys/fs/bpf"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fs, m.dir, m.fs, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	// Interpreted programs would pass the tests and say nothing about the JIT that everyone runs.
	if err := os.WriteFile("/proc/sys/net/core/bpf_jit_enable", []byte("1"), 0o644); err != nil {
		return err
	}
	return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
}

// loopbackUp brings lo up by ioctl, so that init needs no network library.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// loadModules inserts /modules/*.ko in the order of their names, which is the order of their dependencies.
func loadModules() error {
	files, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	sort.Strings(files)
	for _, name := range files {
		image, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := unix.InitModule(image, ""); err != nil {
			return fmt.Errorf("insert %s: %w", name, err)
		}
	}
	return nil
}

// runTests runs each /tests/<name>/test in its own directory, as `go test` would.
func runTests() error {
	tests, err := filepath.Glob("/tests/*/test")
	if err != nil {
		return err
	}
	if len(tests) == 0 {
		return fmt.Errorf("no test binaries under /tests")
	}
	sort.Strings(tests)
	var failed error
	for _, test := range tests {
		fmt.Println("=== kernel", release(), filepath.Base(filepath.Dir(test)))
		args, err := os.ReadFile(filepath.Join(filepath.Dir(test), "args"))
		if err != nil {
			return err
		}
		cmd := exec.Command(test, append([]string{"-test.v", "-test.timeout=20m"}, strings.Fields(string(args))...)...)
		cmd.Dir = filepath.Join("/src", filepath.Base(filepath.Dir(test)))
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
		// Behind what the kernel was told, such as which NICs there are.
		cmd.Env = append(os.Environ(), "PATH=/", "HOME=/tmp", "TMPDIR=/tmp", "XDP_ROAM_REQUIRE_PRIVILEGED=1", "XDP_ROAM_KERNELTEST=1")
		if err := cmd.Run(); err != nil {
			failed = fmt.Errorf("%s: %w", test, err)
			fmt.Println("init:", failed)
		}
	}
	return failed
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
