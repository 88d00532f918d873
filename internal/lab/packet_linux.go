// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// socketBuffer holds about a second of a few thousand packets each second, so
// that a reader that is not scheduled for a while loses none.
const socketBuffer = 8 << 20

// Ethernet protocol numbers that OpenPacket takes.
const (
	EtherNone uint16 = 0              // nothing: to send only
	EtherAll  uint16 = unix.ETH_P_ALL // everything, in both directions
	EtherIPv4 uint16 = unix.ETH_P_IP  // received IPv4 only
)

// OpenPacket opens a raw socket on a link: each Read is one received frame from
// its Ethernet header on, each Write sends one. With EtherAll it is a tap that
// also sees what the link sends. Close ends a Read that waits.
func (n *Namespace) OpenPacket(link string, protocol uint16) (*os.File, error) {
	index, err := n.Index(link)
	if err != nil {
		return nil, err
	}
	fd := -1
	err = n.Do(func() (err error) {
		// Protocol 0 first: a packet socket would take frames of every link until bound.
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		for _, option := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, socketBuffer); err != nil {
				return fmt.Errorf("socket buffer: %w", err)
			}
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index, Protocol: protocol<<8 | protocol>>8})
	})
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("namespace %s: packet socket on %s: %w", n.name, link, err)
	}
	return os.NewFile(uintptr(fd), n.name+"/"+link), nil
}
