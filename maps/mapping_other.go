// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package maps

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Without Linux there is no data plane; a server keeps its table in memory.
func mapping[T, O any](*ebpf.Map, bool, *O) ([]T, error) {
	return nil, fmt.Errorf("mapping a BPF map: %w", errors.ErrUnsupported)
}
