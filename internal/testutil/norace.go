// SPDX-License-Identifier: Apache-2.0

//go:build !race

package testutil

// Race is true under the race detector.
const Race = false
