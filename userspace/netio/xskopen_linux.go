// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	defaultFrames = 4096
	maxFrames     = 1 << 20
)

// ErrMemoryLimit means that the memory for frames may not be locked.
var ErrMemoryLimit = errors.New("RLIMIT_MEMLOCK is too small for an AF_XDP socket's memory: raise it (systemd: LimitMEMLOCK=infinity) or give CAP_IPC_LOCK")

// ListenXSK opens an AF_XDP socket and binds it to its queue, zero-copy where the
// driver can and XSKConfig.Copy does not forbid it. It takes CAP_NET_RAW, and it gets
// nothing before it is in the XSKMAP of an XDP program on that interface. errors.Is finds EBUSY where another socket
// has the queue (or had it a moment ago), ENODEV and EINVAL where interface or
// queue are gone, EOPNOTSUPP and EAFNOSUPPORT where the kernel has no AF_XDP.
func ListenXSK(cfg XSKConfig) (*XSK, error) {
	x, err := listenXSK(cfg)
	if err != nil {
		return nil, fmt.Errorf("AF_XDP socket on queue %d of interface %d: %w", cfg.Queue, cfg.Interface, err)
	}
	return x, nil
}

func listenXSK(cfg XSKConfig) (*XSK, error) {
	frames := cfg.Frames
	if frames == 0 {
		frames = defaultFrames
	}
	if frames < MaxBatch || frames > maxFrames {
		return nil, fmt.Errorf("%d frames: give %d to %d", frames, MaxBatch, maxFrames)
	}
	count := uint32(1) << bits.Len(uint(frames-1))
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	x := &XSK{port: cfg.Port, frameSize: uint64(XSKFrameSize(cfg.MTU)), out: sending{mtu: cfg.MTU}}
	if err := x.open(fd, cfg, count); err != nil {
		unix.Close(fd)
		for _, ring := range x.rings {
			_ = unix.Munmap(ring)
		}
		return nil, err
	}
	x.file = os.NewFile(uintptr(fd), "xsk")
	x.ready = x.isReady
	if x.raw, err = x.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, x.file.Close())
	}
	return x, nil
}

// XSKFrameSize is how many bytes a socket keeps for each frame of an interface with
// this MTU: a power of two that holds it behind the head room that the kernel
// leaves free. The kernel takes no more than a page, and our XDP program too gets
// packets of one page at most.
func XSKFrameSize(mtu int) int {
	const headRoom, headers = 256, ethernetLen + vlanTagsMax*vlanTagLen
	if headRoom+headers+mtu <= 2048 {
		return 2048
	}
	return os.Getpagesize()
}

// open makes the rings and binds.
func (x *XSK) open(fd int, cfg XSKConfig, count uint32) error {
	if err := x.register(fd, int(count+sendFrames)*int(x.frameSize)); err != nil {
		return err
	}
	for _, ring := range []struct {
		name   string
		option int
		size   uint32
	}{
		{"fill", unix.XDP_UMEM_FILL_RING, count},
		{"completion", unix.XDP_UMEM_COMPLETION_RING, sendFrames},
		{"receive", unix.XDP_RX_RING, count},
		{"transmit", unix.XDP_TX_RING, sendFrames},
	} {
		if err := setsockopt(fd, ring.option, &ring.size); err != nil {
			return fmt.Errorf("%s ring of %d: %w", ring.name, ring.size, err)
		}
	}
	var at unix.XDPMmapOffsets
	if err := getsockopt(fd, unix.XDP_MMAP_OFFSETS, &at); err != nil {
		return fmt.Errorf("offsets of the rings: %w", err)
	}
	fill, err := x.mapRing(fd, unix.XDP_UMEM_PGOFF_FILL_RING, ringBytes[uint64](at.Fr, count))
	if err != nil {
		return err
	}
	x.fill = newRing[uint64](fill, at.Fr, count)
	rx, err := x.mapRing(fd, unix.XDP_PGOFF_RX_RING, ringBytes[unix.XDPDesc](at.Rx, count))
	if err != nil {
		return err
	}
	x.rx = newRing[unix.XDPDesc](rx, at.Rx, count)
	for i := range x.fill.room(count) {
		*x.fill.at(i) = uint64(i) * x.frameSize
	}
	x.fill.produce(count)
	if err := x.openSending(fd, &at, count); err != nil {
		return err
	}
	return x.bind(fd, cfg)
}

// openSending makes the way out, with the frames behind those to receive into.
func (x *XSK) openSending(fd int, at *unix.XDPMmapOffsets, first uint32) error {
	tx, err := x.mapRing(fd, unix.XDP_PGOFF_TX_RING, ringBytes[unix.XDPDesc](at.Tx, sendFrames))
	if err != nil {
		return err
	}
	completed, err := x.mapRing(fd, unix.XDP_UMEM_PGOFF_COMPLETION_RING, ringBytes[uint64](at.Cr, sendFrames))
	if err != nil {
		return err
	}
	s := &x.out
	s.tx, s.completed = newRing[unix.XDPDesc](tx, at.Tx, sendFrames), newRing[uint64](completed, at.Cr, sendFrames)
	s.kick, s.free = s.send, make([]uint64, 0, sendFrames)
	for i := range uint64(sendFrames) {
		s.free = append(s.free, (uint64(first)+i)*x.frameSize)
	}
	// In copy mode a frame on its way is a packet in the socket's send buffer.
	const truesize = 8192
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendFrames*truesize)
	budget := uint32(sendBudget)
	_ = setsockopt(fd, unix.XDP_MAX_TX_SKB_BUDGET, &budget)
	return nil
}

// register makes the memory for frames and gives it to the socket.
func (x *XSK) register(fd, size int) error {
	const huge = 2 << 20
	whole := (size + huge - 1) &^ (huge - 1)
	protection, flags := unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS
	memory, err := unix.Mmap(-1, 0, whole, protection, flags|unix.MAP_POPULATE|unix.MAP_HUGETLB|unix.MAP_HUGE_2MB)
	x.info.HugePages = err == nil
	if err != nil { // none are reserved, as a rule
		if memory, err = unix.Mmap(-1, 0, whole, protection, flags); err == nil {
			// Where the kernel finds large ones it saves the same misses, a tenth of what a
			// packet costs. Registering brings the pages, so it has to be said before.
			_ = unix.Madvise(memory, unix.MADV_HUGEPAGE)
		}
	}
	if err != nil {
		return fmt.Errorf("%d bytes for frames: %w", size, err)
	}
	// Unmapped when nothing refers to x any more: a reader that still works on its
	// last batch when the socket is closed must not find it gone.
	runtime.AddCleanup(x, func(b []byte) { _ = unix.Munmap(b) }, memory)
	x.umem, x.info.Memory = memory[:size], len(memory)
	reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&memory[0]))), Len: uint64(size), Size: uint32(x.frameSize)}
	err = setsockopt(fd, unix.XDP_UMEM_REG, &reg)
	if errors.Is(err, unix.ENOBUFS) {
		return fmt.Errorf("%w (%d bytes): %w", ErrMemoryLimit, size, err)
	}
	if err != nil {
		return fmt.Errorf("register %d bytes for frames: %w", size, err)
	}
	return nil
}

func (x *XSK) mapRing(fd int, offset int64, size int) ([]byte, error) {
	memory, err := unix.Mmap(fd, offset, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map a ring: %w", err)
	}
	x.rings = append(x.rings, memory)
	return memory, nil
}

// bind lets the kernel choose zero-copy, which it falls back from by itself, unless
// frames are to be copied.
func (x *XSK) bind(fd int, cfg XSKConfig) error {
	to := &unix.SockaddrXDP{Flags: unix.XDP_USE_NEED_WAKEUP, Ifindex: uint32(cfg.Interface), QueueID: uint32(cfg.Queue)}
	if cfg.Copy {
		to.Flags |= unix.XDP_COPY
	}
	if err := unix.Bind(fd, to); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	var options uint32
	if err := getsockopt(fd, unix.XDP_OPTIONS, &options); err != nil {
		return fmt.Errorf("read the socket's options: %w", err)
	}
	x.info.Interface, x.info.Queue = cfg.Interface, cfg.Queue
	x.info.ZeroCopy = options&unix.XDP_OPTIONS_ZEROCOPY != 0
	return nil
}

func setsockopt[T any](fd, option int, value *T) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option),
		uintptr(unsafe.Pointer(value)), unsafe.Sizeof(*value), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func getsockopt[T any](fd, option int, value *T) error {
	size := uint32(unsafe.Sizeof(*value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option),
		uintptr(unsafe.Pointer(value)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
