// SPDX-License-Identifier: Apache-2.0

package known

import (
	"os"

	"golang.org/x/sys/windows"
)

// lock waits until no other process holds path.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := windows.LockFileEx(windows.Handle(file.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, new(windows.Overlapped)); err != nil {
		file.Close()
		return nil, err
	}
	return func() { file.Close() }, nil
}
