// SPDX-License-Identifier: Apache-2.0

// Package prefetch issues prefetch instructions for memory that is needed soon, so that
// the cache misses of many objects overlap instead of adding up.
package prefetch

import "unsafe"

// Object asks for the memory of *p. It waits for nothing and reads nothing into
// the program, so it races with no writer and p may be nil.
func Object[T any](p *T) { Bytes(unsafe.Pointer(p), unsafe.Sizeof(*p)) }
