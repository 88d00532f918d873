// SPDX-License-Identifier: Apache-2.0

//go:build darwin || freebsd

package netio

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// setOptions prepares a socket before it is bound.
func setOptions(fd uintptr, cfg Config, six bool) error {
	if err := checkPortable(cfg); err != nil {
		return err
	}
	var err error
	if six {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1)
	} else {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_DONTFRAG, 1)
	}
	if err != nil {
		return fmt.Errorf("forbid fragments: %w", err)
	}
	if cfg.ReusePort {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fmt.Errorf("set SO_REUSEPORT: %w", err)
		}
	}
	if cfg.ReadBuffer > 0 {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, cfg.ReadBuffer); err != nil {
			return fmt.Errorf("set SO_RCVBUF: %w", err)
		}
	}
	return nil
}

// fromICMP says whether a read error reports on an earlier datagram of ours.
func fromICMP(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) ||
		errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, syscall.ENOBUFS)
}

// tooLong never happens: these systems cut a datagram that does not fit.
func tooLong(error) bool { return false }
