// SPDX-License-Identifier: Apache-2.0

//go:build unix

package known

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock waits until no other process holds path. The file stays: who removed it
// would let in two at a time.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return func() { file.Close() }, nil
}
