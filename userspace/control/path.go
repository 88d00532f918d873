// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"syscall"
)

// ErrPathTooLong is wrapped by the error for a path that fits into no Unix
// socket's address.
var ErrPathTooLong = errors.New("the control socket's path is too long")

// newSuffix ends the name that a socket has until it is complete. The
// directory's lock keeps two daemons from using it at once.
const newSuffix = ".new"

// maxPath is the longest path in bytes; the kernel wants a zero byte after it.
const maxPath = len(syscall.RawSockaddrUnix{}.Path) - 1 - len(newSuffix)

func checkPath(path string) error {
	if len(path) <= maxPath {
		return nil
	}
	return fmt.Errorf("%w: %s has %d bytes, %d fit into a Unix socket's address", ErrPathTooLong, path, len(path), maxPath)
}
