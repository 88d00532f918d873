// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// setOptions prepares a socket before it is bound.
func setOptions(fd uintptr, cfg Config, six bool) error {
	set := func(name string, level, opt, value int) error {
		if err := unix.SetsockoptInt(int(fd), level, opt, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
		return nil
	}
	// PROBE sets DF and ignores what ICMP said about the path's MTU. A
	// dual-stack socket needs both, one for each family of its packets.
	if err := set("IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE); err != nil {
		return err
	}
	if six {
		if err := set("IPV6_MTU_DISCOVER", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE); err != nil {
			return err
		}
		if err := set("IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1); err != nil {
			return err
		}
	} else if err := set("IP_PKTINFO", unix.IPPROTO_IP, unix.IP_PKTINFO, 1); err != nil {
		return err
	}
	if cfg.ReusePort {
		if err := set("SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return err
		}
	}
	if cfg.ReadBuffer > 0 {
		if set("SO_RCVBUFFORCE", unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, cfg.ReadBuffer) != nil {
			// Without CAP_NET_ADMIN the kernel caps it silently.
			if err := set("SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF, cfg.ReadBuffer); err != nil {
				return err
			}
		}
	}
	if cfg.GRO {
		_ = set("UDP_GRO", unix.IPPROTO_UDP, unix.UDP_GRO, 1) // without it datagrams come one by one
	}
	if cfg.Device != "" {
		if err := unix.BindToDevice(int(fd), cfg.Device); err != nil {
			return fmt.Errorf("bind to device %q: %w", cfg.Device, err)
		}
	}
	return nil
}
