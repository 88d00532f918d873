// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrClosed is returned by operations on a namespace after its Close.
var ErrClosed = errors.New("the namespace is closed")

// Namespace is a network namespace of its own, held by one operating system
// thread that entered it and never leaves. Its methods are safe for concurrent
// use; those that run in the namespace do so one at a time.
type Namespace struct {
	name   string
	fd     int             // names the namespace in netlink requests of others
	handle *netlink.Handle // a netlink socket that lives inside the namespace

	work chan func()
	gone chan struct{}
	once sync.Once

	mu   sync.Mutex
	kept []io.Closer // closed with the namespace
}

// NewNamespace makes an empty network namespace with its loopback up. The name
// is for error messages alone. It needs CAP_SYS_ADMIN and CAP_NET_ADMIN.
func NewNamespace(name string) (*Namespace, error) {
	return hold(name, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		return nil
	})
}

// Here is the namespace that this process is in, such as one that Start has
// started. Close leaves it as it is.
func Here(name string) (*Namespace, error) { return hold(name, func() error { return nil }) }

// hold gives a namespace the thread that holds it, once enter has brought the
// thread there.
func hold(name string, enter func() error) (*Namespace, error) {
	n := &Namespace{name: name, fd: -1, work: make(chan func()), gone: make(chan struct{})}
	started := make(chan error)
	onOwnThread(func() {
		defer close(n.gone)
		err := n.open(enter)
		started <- err
		if err != nil {
			return
		}
		for f := range n.work {
			f()
		}
	})
	if err := <-started; err != nil {
		n.release()
		return nil, fmt.Errorf("entering network namespace %s: %w", name, err)
	}
	return n, nil
}

// onOwnThread runs f on a goroutine locked to a thread that ends with it. The
// main thread is avoided: it cannot end before the process, and /proc/self shows
// its namespaces as those of the process.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return // still locked: the runtime ends the thread
		}
		elsewhere := make(chan struct{})
		onOwnThread(func() {
			close(elsewhere)
			f()
		})
		<-elsewhere // holding the main thread until another one was taken
		runtime.UnlockOSThread()
	}()
}

// open lets the calling thread enter the namespace and opens what names it.
func (n *Namespace) open(enter func() error) error {
	if err := enter(); err != nil {
		return err
	}
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening /proc/thread-self/ns/net: %w", err)
	}
	n.fd = fd
	if n.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("netlink socket: %w", err)
	}
	return n.SetUp("lo", true)
}

// release closes the descriptors; the thread's own hold ends with the thread.
func (n *Namespace) release() {
	if n.handle != nil {
		n.handle.Close()
	}
	if n.fd >= 0 {
		unix.Close(n.fd)
	}
}

// Close ends the thread and kills every process started in the namespace; the
// kernel then removes the namespace with its links. Sockets and files opened in
// it keep it alive until they are closed. A second Close does nothing.
func (n *Namespace) Close() error {
	n.once.Do(func() {
		close(n.work)
		<-n.gone
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, c := range n.kept {
			c.Close()
		}
		n.release()
	})
	return nil
}

// keep has c closed with the namespace.
func (n *Namespace) keep(c io.Closer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kept = append(n.kept, c)
}

// Do runs f on the namespace's thread: sockets that f opens and processes that
// it starts belong to the namespace, also when used elsewhere later. f must not
// call Do of the same namespace. It returns f's error, and passes a panic on.
func (n *Namespace) Do(f func() error) (err error) {
	done := make(chan any, 1)
	task := func() {
		defer func() { done <- recover() }()
		err = f()
	}
	if !n.submit(task) {
		return fmt.Errorf("namespace %s: %w", n.name, ErrClosed)
	}
	if p := <-done; p != nil {
		panic(p)
	}
	return err
}

// submit hands f to the thread; false when the namespace is closed, or closes
// while we wait for our turn.
func (n *Namespace) submit(f func()) (ok bool) {
	defer func() { // a send on the closed channel means Close came first
		if recover() != nil {
			ok = false
		}
	}()
	n.work <- f
	return true
}

// Start starts cmd in the namespace. The process is killed when the namespace
// is closed or this process dies.
func (n *Namespace) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// Bound to the death of the forking thread, which is the namespace's own.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return n.Do(cmd.Start)
}

// OwnMounts gives the processes started from now on a mount namespace of their
// own, with a /sys that shows this network namespace's devices and an empty BPF
// file system at /sys/fs/bpf. It goes with the last of them.
func (n *Namespace) OwnMounts() error {
	return n.Do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("namespace %s: unshare mounts: %w", n.name, err)
		}
		// Without this, mounts below would appear outside as well.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("namespace %s: making mounts private: %w", n.name, err)
		}
		if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
			return fmt.Errorf("namespace %s: mounting sysfs at /sys: %w", n.name, err)
		}
		if err := unix.Mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=0700"); err != nil {
			return fmt.Errorf("namespace %s: mounting bpffs at /sys/fs/bpf: %w", n.name, err)
		}
		return nil
	})
}

// Sysctl writes one setting of the namespace, named with slashes as below
// /proc/sys/net ("ipv4/ip_forward").
func (n *Namespace) Sysctl(name, value string) error {
	file := path.Join("/proc/sys/net", name)
	return n.Do(func() error {
		if err := os.WriteFile(file, []byte(value), 0); err != nil {
			if errors.Is(err, unix.EROFS) {
				err = fmt.Errorf("%w (a container with a read-only /proc/sys? run it privileged)", err)
			}
			return fmt.Errorf("namespace %s: setting net.%s = %s: %w",
				n.name, strings.ReplaceAll(name, "/", "."), value, err)
		}
		return nil
	})
}

// ListenUDP opens a UDP socket in the namespace.
func (n *Namespace) ListenUDP(addr netip.AddrPort) (*net.UDPConn, error) {
	var conn *net.UDPConn
	err := n.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", n.name, err)
	}
	return conn, nil
}
