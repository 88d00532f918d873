// SPDX-License-Identifier: Apache-2.0

//go:build linux

package doctor

import "github.com/xdp-roam/xdp-roam/loader"

// Facts are what Collect has found out.
type Facts struct {
	Kernel       Kernel
	Capabilities Capabilities
	BPFFS        error // why pins cannot be made; nil: they can
	Memory       Memory
	Clock        Clock
	Port         Port
	Workers      int // of the daemon
	Interfaces   []Interface
	// WrongKey is how many handshakes a running edge was sent under another server's
	// key; Collect leaves it to who can ask the edge.
	WrongKey uint64
}

// Kernel is what the kernel can do.
type Kernel struct {
	Release  string
	Features []loader.Feature
	JIT      int // net.core.bpf_jit_enable; -1: not known
}

// Capabilities are what loader.CheckCapabilities says.
type Capabilities struct {
	Err      error
	Warnings []string
}

// Memory is what may be charged to this process, in bytes.
type Memory struct {
	Table       uint64 // of the session table
	CgroupLimit uint64 // the least of the cgroup and those above it; 0: none
	CgroupUsed  uint64
	Memlock     uint64 // RLIMIT_MEMLOCK, ^0: none; it bounds the memory of AF_XDP sockets
	IPCLock     bool   // CAP_IPC_LOCK: RLIMIT_MEMLOCK does not count
}

// Clock is what time is kept by.
type Clock struct {
	Source string // tsc, kvm-clock, hpet, ...; empty: not known
}

// Port is the UDP port that the edge is to listen on.
type Port struct {
	Address string
	Err     error // why it cannot; nil: it is free
	Ours    bool  // the instance's own daemon has it
}

// Interface is one NIC.
type Interface struct {
	*loader.Interface
	Err      error // why there is nothing else to know
	Up       bool
	Ours     bool // what is attached is this instance's
	Rings    Rings
	Channels Channels
	UDPHash  Hash // of IPv4
	GRO, LRO bool
	Probe    *Probe // nil: not asked for
}

// Rings are the receive ring's size, and the largest it can have; 0: not known.
type Rings struct{ Size, Max int }

// Channels are the receive queues in use, and how many there could be; 0: not known.
type Channels struct {
	Count, Max int
	// Separate: the driver counts them apart from the queues for sending, as veth does.
	Separate bool
}

// Hash says by what the NIC spreads UDP packets over its queues.
type Hash struct{ Known, Addresses, Ports bool }

// Probe is the result of attaching an empty program natively for a moment.
type Probe struct {
	Err    error  // nil: the driver takes it
	Driver string // what the driver said
}
