// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watch calls changed for every rtnetlink message about links, addresses and
// routes. What it says does not matter: the answer is to ask the kernel for the
// route again. It fails with errors.ErrUnsupported where sandboxes keep netlink
// away.
func watch(ctx context.Context, changed func()) error {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return fmt.Errorf("rtnetlink: %w: %w", errors.ErrUnsupported, err)
	}
	stop := context.AfterFunc(ctx, s.Close)
	defer func() {
		if stop() {
			s.Close()
		}
	}()
	changed() // what changed before we listened
	for {
		_, _, err := s.Receive()
		switch {
		case err == nil, errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINTR):
			// ENOBUFS: messages were lost, so something has changed.
			changed()
		case ctx.Err() != nil, errors.Is(err, os.ErrClosed):
			return ctx.Err()
		default:
			return fmt.Errorf("rtnetlink: %w: %w", errors.ErrUnsupported, err)
		}
	}
}
