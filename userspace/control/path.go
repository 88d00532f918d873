// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// ErrPathTooLong is wrapped by the error for a path that fits into no Unix
// socket's address.
var ErrPathTooLong = errors.New("the control socket's path is too long")

// A socket is made in a directory that only its owner may enter, since the umask alone
// says who may connect to it until its mode is set; these follow on its own name. The
// lock on the directory of both keeps two daemons from using it at once.
const (
	newSuffix = ".new"
	newSocket = "/s"
)

// maxPath is the longest path in bytes; the kernel wants a zero byte after it.
const maxPath = len(syscall.RawSockaddrUnix{}.Path) - 1 - len(newSuffix+newSocket)

// clearPrivate removes what a daemon makes for a moment, and nothing else: whatever
// else has that name stays, and the next Mkdir fails over it.
func clearPrivate(private string) {
	for _, name := range []string{private + newSocket, private} {
		info, err := os.Lstat(name)
		if err == nil && info.Mode().Type()&(fs.ModeSocket|fs.ModeDir) != 0 {
			_ = os.Remove(name) // a directory only if it is empty
		}
	}
}

func checkPath(path string) error {
	if len(path) <= maxPath {
		return nil
	}
	return fmt.Errorf("%w: %s has %d bytes, %d fit into a Unix socket's address", ErrPathTooLong, path, len(path), maxPath)
}
