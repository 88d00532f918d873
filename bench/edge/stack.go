// SPDX-License-Identifier: Apache-2.0

//go:build linux

package edge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/network"
)

// sinkPort is of a socket whose packets mean nothing.
const sinkPort = 7009

// Stack returns what the kernel spends, ns, on a UDP datagram of size from the device
// up to its socket: IP, UDP and the socket's queue, without the reader. For peers whose
// sender must be there, and does that work on its own account over a veth pair.
func (e *Edge) Stack(size int) (ns float64, err error) {
	sink, err := e.Wire.Server.ListenUDP(netip.AddrPortFrom(network.ServerAddr, sinkPort))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	if err := holdBurst(sink); err != nil {
		return 0, err
	}
	ends, payload := e.Wire.Ends(sinkPort, sinkPort), make([]byte, size)
	e.Recording.Reset()
	for range Burst {
		if err := e.Recording.Append(ends, payload); err != nil {
			return 0, err
		}
	}
	var spent time.Duration
	for bursts := 0; bursts < stackBursts; {
		var cost time.Duration
		for _, run := range []struct {
			program string
			sign    time.Duration
		}{{harness.OnlyReturn, -1}, {harness.OnlyPass, 1}} {
			if err := e.Recording.Play(); err != nil {
				return 0, err
			}
			cpu, err := e.Wire.Inject(e.h, run.program, Burst)
			if err != nil {
				return 0, err
			}
			cost += run.sign * cpu
		}
		n, err := drain(sink)
		if err != nil {
			return 0, err
		}
		if n > Burst { // a signal has interrupted the injection, which then began anew
			continue
		}
		bursts++
		spent += cost
		if n != Burst {
			return 0, fmt.Errorf("%d of %d packets came to a socket that has room for all", n, Burst)
		}
	}
	return float64(spent) / (stackBursts * Burst), nil
}

const stackBursts = 16

// holdBurst gives a socket room for a burst, whatever the system's limit is.
func holdBurst(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	})
	return errors.Join(err, failed)
}

// drain reads what is there and returns how many packets. It asks the system: to Go, a
// deadline that a busy machine has let pass means that there is nothing, whatever is.
func drain(c *net.UDPConn) (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	b := make([]byte, 2048)
	var failed error
	err = raw.Control(func(fd uintptr) {
		for {
			if _, _, failed = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT); failed != nil {
				return
			}
			n++
		}
	})
	if errors.Is(failed, unix.EAGAIN) {
		failed = nil
	}
	return n, errors.Join(err, failed)
}
