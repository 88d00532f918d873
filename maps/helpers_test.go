// SPDX-License-Identifier: Apache-2.0

package maps

import "unsafe"

// slotMemory is the slot as the data plane sees it.
func (s *Sessions) slotMemory(n uint32) unsafe.Pointer { return unsafe.Pointer(&s.slots[n]) }
