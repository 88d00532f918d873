// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// The watch tells of what happens to links, and ends with its context.
func TestWatch(t *testing.T) {
	testutil.RequirePrivileged(t)
	here := namespace(t, "here")
	told := make(chan struct{}, 1)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- here.Do(func() error { return HostNetwork{}.Watch(ctx, func() { notify(told) }) })
	}()
	<-told // what changed before it listened
	if err := here.AddAddr("lo", netip.MustParsePrefix("10.7.0.1/32")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Error("a new address is not told of")
	}
	stop()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}

// While nobody touches the clock the timer of wake-ups tells nothing, and it ends
// with its context.
func TestWatchWakes(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	told, ended := 0, make(chan struct{})
	go func() {
		defer close(ended)
		watchWakes(ctx, func() { told++ })
	}()
	select {
	case <-ended:
		t.Skip("this kernel has no timer that a wake-up cancels")
	case <-time.After(50 * time.Millisecond):
	}
	stop()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
	if told > 1 {
		t.Errorf("told %d times that the machine woke up", told)
	}
}

// Clocks that nobody stops agree.
func TestSleptIsStill(t *testing.T) {
	before := (HostNetwork{}).Slept()
	if d := (HostNetwork{}).Slept() - before; d < -time.Second || d > time.Second {
		t.Errorf("the machine slept for %v in between", d)
	}
}
