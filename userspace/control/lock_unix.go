// SPDX-License-Identifier: Apache-2.0

//go:build unix

package control

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lockDirectory keeps two daemons from judging and replacing one socket at the
// same time. The lock is on the directory itself, so that no lock file stays
// behind.
func lockDirectory(directory string) (unlock func(), err error) {
	f, err := os.Open(directory)
	if err != nil {
		return nil, fmt.Errorf("cannot open the control socket's directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock %s: %w", directory, err)
	}
	return func() { f.Close() }, nil
}
