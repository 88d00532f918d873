// SPDX-License-Identifier: Apache-2.0

//go:build race

package server

// raceEnabled: sync.Pool forgets at random under the race detector, so counts
// of allocations mean nothing.
const raceEnabled = true
