// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 && !arm64

package prefetch

import "unsafe"

// Bytes is Object for n bytes at p. On this architecture it does nothing.
func Bytes(p unsafe.Pointer, n uintptr) {}
