// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watch listens for both that a network changed and that the machine woke up.
func watch(ctx context.Context, changed func()) error {
	ctx, stop := context.WithCancel(ctx)
	var waking sync.WaitGroup
	waking.Go(func() { watchWakes(ctx, changed) })
	err := watchRoutes(ctx, changed)
	stop()
	waking.Wait()
	return err
}

// watchWakes calls changed when the machine wakes from sleep, and when the wall
// clock is set, which costs a look: both cancel a timer of the wall clock, which
// else never fires. Where there is no such timer it returns: then the network's
// changes, which waking up mostly is one of, have to do.
func watchWakes(ctx context.Context, changed func()) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return
	}
	timer := os.NewFile(uintptr(fd), "timerfd")
	defer timer.Close()
	defer context.AfterFunc(ctx, func() { timer.Close() })()
	raw, err := timer.SyscallConn()
	if err != nil {
		return
	}
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: 1 << 33}} // the kernel counts 292 years
	for ctx.Err() == nil {
		var armErr error
		err := raw.Control(func(fd uintptr) {
			armErr = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil)
		})
		// An ECANCELED here tells of the same, just earlier.
		if err != nil || armErr != nil && !errors.Is(armErr, unix.ECANCELED) {
			return
		}
		if _, err := timer.Read(make([]byte, 8)); !errors.Is(err, unix.ECANCELED) {
			return // closed
		}
		changed()
	}
}

// watchRoutes calls changed for every rtnetlink message about links, addresses and
// routes. What it says does not matter: the answer is to ask the kernel for the
// route again. It fails with errors.ErrUnsupported where sandboxes keep netlink
// away.
func watchRoutes(ctx context.Context, changed func()) error {
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
