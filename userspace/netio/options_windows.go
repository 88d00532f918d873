// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"errors"
	"fmt"

	"golang.org/x/sys/windows"
)

// IP_DONTFRAGMENT and IPV6_DONTFRAG of ws2ipdef.h.
const dontFragment = 14

// setOptions prepares a socket before it is bound.
func setOptions(fd uintptr, cfg Config, six bool) error {
	if err := checkPortable(cfg); err != nil {
		return err
	}
	if cfg.ReusePort {
		return fmt.Errorf("sharing a port: %w", ErrUnsupported)
	}
	level := windows.IPPROTO_IP
	if six {
		level = windows.IPPROTO_IPV6
	}
	if err := windows.SetsockoptInt(windows.Handle(fd), level, dontFragment, 1); err != nil {
		return fmt.Errorf("forbid fragments: %w", err)
	}
	if cfg.ReadBuffer > 0 {
		if err := windows.SetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, windows.SO_RCVBUF, cfg.ReadBuffer); err != nil {
			return fmt.Errorf("set SO_RCVBUF: %w", err)
		}
	}
	return nil
}

// fromICMP says whether a read error reports on an earlier datagram of ours.
func fromICMP(err error) bool {
	return errors.Is(err, windows.WSAECONNRESET) || errors.Is(err, windows.WSAENETRESET) ||
		errors.Is(err, windows.WSAEHOSTUNREACH) || errors.Is(err, windows.WSAENETUNREACH)
}

// tooLong says that the datagram did not fit; Windows reports what others cut silently.
func tooLong(err error) bool { return errors.Is(err, windows.WSAEMSGSIZE) }
