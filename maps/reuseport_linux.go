// SPDX-License-Identifier: Apache-2.0

package maps

import "golang.org/x/sys/unix"

func attachReuseport(socket, program int) error {
	return unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, program)
}
