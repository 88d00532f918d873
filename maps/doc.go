// SPDX-License-Identifier: Apache-2.0

// Package maps wraps the data plane's BPF maps, one type for each map, so that
// the rest of the program speaks of sessions, listeners and counters and never
// of keys, values and file descriptors. No *ebpf.Map leaves it.
//
// One process writes an instance's maps (loader holds the lock that makes it
// so); others open them read-only with OpenReadOnly.
package maps
