// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kernelCalls stands for a socket's descriptor and notes what is asked of it.
type kernelCalls struct{ calls []string }

func (k *kernelCalls) Control(func(uintptr)) error {
	k.calls = append(k.calls, "wake")
	return nil
}

func (k *kernelCalls) Read(func(uintptr) bool) error {
	k.calls = append(k.calls, "sleep")
	return os.ErrDeadlineExceeded
}

func (*kernelCalls) Write(func(uintptr) bool) error { return os.ErrInvalid }

// A driver that has run out of frames says so behind our back, when the reader has
// given its last ones back already: it is woken before the reader sleeps, or no
// packet would ever wake that.
func TestXSKWakesBeforeItSleeps(t *testing.T) {
	for _, asked := range []bool{false, true} {
		kernel := new(kernelCalls)
		x := &XSK{raw: kernel}
		x.fill, _, _ = twoSides(8, 0)
		_, rx, _ := twoSides(8, 0)
		x.rx.producer = rx
		if asked {
			*x.fill.flags = unix.XDP_RING_NEED_WAKEUP
		}
		if _, err := x.ReadBatch(make([]Message, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		want := []string{"sleep"}
		if asked {
			want = []string{"wake", "sleep"}
		}
		if len(kernel.calls) != len(want) || kernel.calls[0] != want[0] {
			t.Errorf("asked %v: %q, want %q", asked, kernel.calls, want)
		}
	}
}

// A reader for which much has come fast naps, after it has woken a driver that waits for
// frames; it sleeps where little came, or came slowly.
func TestXSKNaps(t *testing.T) {
	for _, c := range []struct {
		came    uint32
		took    time.Duration
		waiting bool // the driver
		want    []string
	}{
		{came: 1 << 30, want: nil},
		{came: 1 << 30, waiting: true, want: []string{"wake"}},
		{came: napWorth - 1, want: []string{"sleep"}},
		{came: napWorth, took: time.Hour, want: []string{"sleep"}},
	} {
		kernel := new(kernelCalls)
		x := &XSK{raw: kernel, came: c.came, since: time.Now().Add(-c.took)}
		x.fill, _, _ = twoSides(8, 0)
		_, rx, _ := twoSides(8, 0)
		x.rx.producer = rx
		if c.waiting {
			*x.fill.flags = unix.XDP_RING_NEED_WAKEUP
		}
		if err := x.wait(); !slices.Equal(kernel.calls, c.want) || (err != nil) != slices.Contains(c.want, "sleep") {
			t.Errorf("%+v: %q, %v", c, kernel.calls, err)
		}
		if x.came != 0 || time.Since(x.since) > time.Minute {
			t.Errorf("%+v: what has come counts twice", c)
		}
	}
}

// A driver that says so when the reader has fallen asleep is woken by a look from
// outside, which the sleeper does not hold up.
func TestXSKNudge(t *testing.T) {
	kernel := new(kernelCalls)
	x := &XSK{raw: kernel}
	x.fill, _, _ = twoSides(8, 0)
	x.mu.Lock() // as the reader does while it sleeps
	defer x.mu.Unlock()
	x.Nudge()
	if len(kernel.calls) != 0 {
		t.Errorf("a driver that does not wait: %q", kernel.calls)
	}
	*x.fill.flags = unix.XDP_RING_NEED_WAKEUP
	x.Nudge()
	if len(kernel.calls) != 1 || kernel.calls[0] != "wake" {
		t.Errorf("a driver that waits: %q", kernel.calls)
	}
	x.closed.Store(true)
	x.fill = ring[uint64]{}
	x.Nudge()
	if len(kernel.calls) != 1 {
		t.Errorf("a closed socket: %q", kernel.calls)
	}
}
