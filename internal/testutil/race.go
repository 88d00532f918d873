// SPDX-License-Identifier: Apache-2.0

//go:build race

package testutil

// Race is true under the race detector: sync.Pool forgets at random there, so
// counts of allocations mean nothing.
const Race = true
