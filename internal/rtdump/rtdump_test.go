// SPDX-License-Identifier: Apache-2.0

//go:build linux

package rtdump

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestWhole(t *testing.T) {
	interrupted := fmt.Errorf("listing: %w", netlink.ErrDumpInterrupted)
	broken := errors.New("broken")
	for _, c := range []struct {
		name   string
		errs   []error // of one call after another; the last one's goes on
		calls  int
		result error
	}{
		{"at once", []error{nil}, 1, nil},
		{"third time", []error{interrupted, interrupted, nil}, 3, nil},
		{"never", []error{interrupted}, tries, netlink.ErrDumpInterrupted},
		{"broken", []error{interrupted, broken}, 2, broken},
	} {
		calls := 0
		got, err := Whole(func() ([]int, error) {
			err := c.errs[min(calls, len(c.errs)-1)]
			calls++
			return []int{calls}, err
		})
		if !errors.Is(err, c.result) || calls != c.calls {
			t.Errorf("%s: %v after %d calls", c.name, err, calls)
		}
		if want := []int{calls}; err == nil && !slices.Equal(got, want) || err != nil && got != nil {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
