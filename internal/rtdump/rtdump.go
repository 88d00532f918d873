// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package rtdump reads whole lists of links, addresses and routes from the kernel.
package rtdump

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// tries is how often a list that changes all the time is asked for.
const tries = 20

// Whole calls list, and again where the kernel says that what it told changed
// meanwhile (NLM_F_DUMP_INTR of netlink(7)): such a list may lack entries that were
// there all along. A list that never stands still fails with
// netlink.ErrDumpInterrupted.
func Whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range tries {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return all, nil
}
