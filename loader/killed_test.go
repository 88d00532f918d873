// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// Tests here kill a process before each system call that leaves something
// behind. The process is this test binary: it has the kernel stop such calls
// (seccomp's user notification), lets n of them happen and kills itself.

// dyingEnv holds "n bpffs action interface..." in the process that is to die.
const dyingEnv = "XDP_ROAM_TEST_DYING"

func TestMain(m *testing.M) {
	if text := os.Getenv(dyingEnv); text != "" {
		die(strings.Fields(text))
	}
	os.Exit(m.Run())
}

// actions are what a process is killed at.
var actions = map[string]func(Options, []string) error{
	"load": func(o Options, interfaces []string) error {
		_, _, err := Load(o, interfaces, ModeXDP)
		return err
	},
	"change": func(o Options, interfaces []string) error {
		_, _, err := Load(o, interfaces, ModeGeneric)
		return err
	},
	"unload": func(o Options, _ []string) error {
		_, err := Unload(o)
		return err
	},
	"upgrade": func(o Options, _ []string) error {
		_, err := Upgrade(o)
		return err
	},
}

func die(args []string) {
	runtime.LockOSThread() // the filter is this thread's
	n, err := strconv.Atoi(args[0])
	if err == nil {
		err = killAfter(n)
	}
	if err == nil {
		err = actions[args[2]](Options{BPFFS: args[1], Instance: "test", Slots: 64}, args[3:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// killAfter lets this thread make n system calls that leave something behind,
// and kills the process in place of the next.
func killAfter(n int) error {
	listener, err := notifyOfChanges()
	if err != nil {
		return err
	}
	go func() {
		type notification struct { // struct seccomp_notif
			id         uint64
			pid, flags uint32
			data       [64]byte
		}
		type response struct { // struct seccomp_notif_resp
			id    uint64
			value int64
			errno int32
			flags uint32
		}
		for ; ; n-- {
			var call notification
			for {
				_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&call)))
				if errno == 0 {
					break
				}
				call = notification{}
			}
			if n == 0 {
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
			answer := response{id: call.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
			_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&answer)))
		}
	}()
	return nil
}

// notifyOfChanges installs the filter and returns the file that tells of calls.
func notifyOfChanges() (int, error) {
	const (
		bpfObjPin, bpfLinkCreate, bpfLinkUpdate, bpfLinkDetach = 6, 28, 29, 34
		nr, firstArgument                                      = 0, 16 // struct seccomp_data, low word first
	)
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	stop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF}
	allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	filter := []unix.SockFilter{load(nr)}
	stopIf := func(values ...uint32) {
		for _, v := range values {
			filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: v, Jf: 1}, stop)
		}
	}
	stopIf(unix.SYS_MKDIRAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_UNLINKAT)
	filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jt: 1}, allow, load(firstArgument))
	stopIf(bpfObjPin, bpfLinkCreate, bpfLinkUpdate, bpfLinkDetach)
	filter = append(filter, allow)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return -1, fmt.Errorf("installing the filter: %w", errno)
	}
	return int(fd), nil
}

// killed runs an action in a process that is killed after n lasting system
// calls, and reports whether it was; else it has come to its end.
func (m *machine) killed(n int, action string, interfaces ...string) bool {
	m.Helper()
	program, err := os.Executable()
	m.must(err)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s %s %s", dyingEnv, n, m.options.BPFFS, action, strings.Join(interfaces, " ")))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false
	case errors.As(err, &exit) && exit.Sys().(interface{ Signal() unix.Signal }).Signal() == unix.SIGKILL:
		return true
	}
	m.Fatalf("%s, to be killed after %d steps: %v: %s", action, n, err, out)
	return false
}

// loaded returns the interfaces of the instance as status tells them; nil
// where nothing is loaded. Nothing may be half there.
func (m *machine) loaded() []string {
	m.Helper()
	s, err := ReadStatus(m.options)
	if errors.Is(err, ErrNotLoaded) {
		return nil
	}
	m.must(err)
	var names []string
	for _, a := range s.Attachments {
		if a.Degraded != "" || m.attached(a.Interface) == nil {
			m.Errorf("%s is %q", a.Interface, a.Degraded)
		}
		names = append(names, a.Interface)
	}
	return names
}

func (m *machine) load(interfaces ...string) {
	m.Helper()
	_, _, err := Load(m.options, interfaces, ModeXDP)
	m.must(err)
}

func (m *machine) unload() {
	m.Helper()
	_, err := Unload(m.options)
	m.must(err)
}

// steps kills an action at one step after another, from the state that prepare
// makes, and has check look at each state that is left, before load and unload
// must work on it. It checks that there were at least so many steps.
func (m *machine) steps(atLeast int, prepare, check func(), action string, interfaces ...string) {
	m.Helper()
	stride := 1
	if testing.Short() || testutil.Race || os.Getenv("XDP_ROAM_KERNELTEST") != "" {
		stride = 7 // on an emulated CPU each load takes seconds; and a killed process has no races to tell of
	}
	for n := 0; ; n += stride {
		for _, again := range []bool{false, true} {
			if !again && n%3 != 0 {
				continue
			}
			prepare()
			alive := !m.killed(n, action, interfaces...)
			check()
			if again {
				m.load("edge0", "edge1")
				if got := m.loaded(); !slices.Contains(got, "edge0") || !slices.Contains(got, "edge1") {
					m.Fatalf("killed after %d steps, then loaded: %v", n, got)
				}
			}
			if _, err := Unload(m.options); err != nil && !(errors.Is(err, ErrNotLoaded) && !again) {
				m.Fatalf("killed after %d steps, then unloaded: %v", n, err)
			}
			m.wantNothing("edge0", "edge1")
			if m.Failed() {
				m.Fatalf("killed after %d steps", n)
			}
			if alive && again {
				if n < atLeast {
					m.Errorf("%s has only %d steps, expected %d", action, n, atLeast)
				}
				m.Logf("%s has some %d steps", action, n)
				return
			}
		}
	}
}

func TestKilledLoadLeavesAllOrNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.addVeth("edge1", "far1", 1500)
	check := func() {
		if got := m.loaded(); len(got) != 0 && !slices.Equal(got, []string{"edge0", "edge1"}) {
			m.Errorf("loaded on %v alone", got)
		}
	}
	m.steps(17, func() {}, check, "load", "edge0", "edge1")
}

func TestKilledSecondLoadLeavesTheFirst(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, name := range []string{"edge1", "edge2"} {
		m.addVeth(name, "far"+name[4:], 1500)
	}
	check := func() {
		if got := m.loaded(); !slices.Equal(got, []string{"edge0"}) && !slices.Equal(got, []string{"edge0", "edge1", "edge2"}) {
			m.Errorf("loaded on %v", got)
		}
	}
	m.steps(10, func() { m.load("edge0") }, check, "load", "edge0", "edge1", "edge2")
}

// A change of mode is the one step that is not atomic: between two links the kernel
// wants none. What that leaves is said by the status, and mended by the next load.
func TestKilledModeChange(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.addVeth("edge1", "far1", 1500)
	bare := 0
	check := func() {
		s, err := ReadStatus(m.options)
		m.must(err)
		if len(s.Attachments) != 2 {
			m.Errorf("the instance has %+v, want both interfaces", s.Attachments)
		}
		for _, a := range s.Attachments {
			if m.attached(a.Interface) != nil {
				continue
			}
			if bare++; a.Degraded == "" {
				m.Errorf("%s has no program, and the status does not say so", a.Interface)
			}
		}
	}
	m.steps(7, func() { m.load("edge0", "edge1") }, check, "change", "edge0", "edge1")
	if bare == 0 && !testing.Short() && os.Getenv("XDP_ROAM_KERNELTEST") == "" {
		t.Error("no process was killed between the links: the test does not see what it is for")
	}
}

func TestKilledUnload(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.addVeth("edge1", "far1", 1500)
	check := func() {
		if got := m.loaded(); len(got) != 0 && !slices.Equal(got, []string{"edge0", "edge1"}) {
			m.Errorf("loaded on %v alone", got)
		}
	}
	m.steps(17, func() { m.load("edge0", "edge1") }, check, "unload")
}
