// SPDX-License-Identifier: Apache-2.0

package control

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Nobody else can connect to the socket at any moment, whatever the umask: a connection
// from before its mode is set would be answered as the owner's.
func TestSocketIsNeverOpenToOthers(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	directory := t.TempDir()
	stop, seen := make(chan struct{}), make(chan string)
	go func() {
		found := ""
		defer func() { seen <- found }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			entries, _ := os.ReadDir(directory)
			for _, e := range entries {
				if info, err := e.Info(); err == nil && info.Mode().Perm()&0o077 != 0 {
					found = info.Mode().String() + " " + e.Name()
				}
			}
		}
	}()
	for range 200 {
		s, err := Listen(filepath.Join(directory, "edge.sock"), NewHandler(fixed{}))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if found := <-seen; found != "" {
		t.Error("others may use", found)
	}
	if left, err := os.ReadDir(directory); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
