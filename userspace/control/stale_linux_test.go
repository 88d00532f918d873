// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A daemon that is too busy to take one more connection is alive: its socket is
// not to be taken from it.
func TestBusyIsInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ { // until its backlog is full
		c, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		defer c.Close()
		if i == 1000 {
			t.Skip("this system's backlog has no end")
		}
	}
	before, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := Listen(path, NewHandler(fixed{})); !errors.Is(err, ErrInUse) {
		t.Errorf("Listen: %v, %v; want ErrInUse", s, err)
	}
	if now, err := os.Lstat(path); err != nil || !os.SameFile(before, now) {
		t.Errorf("the socket was replaced: %v", err)
	}
}
