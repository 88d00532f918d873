// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"io/fs"
	"net"
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

// What a killed daemon left is replaced; what somebody else keeps under that name is
// not lost.
func TestListenLeavesOthersFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.sock")
	private := path + newSuffix
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	left, err := net.Listen("unix", private+newSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer left.Close()
	s, err := Listen(path, NewHandler(fixed{}))
	if err != nil {
		t.Fatal("over what a killed daemon left: ", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(private); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it stays behind: ", err)
	}
	for _, name := range []string{private + "/notes", private} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Listen(path, NewHandler(fixed{})); err == nil {
			t.Errorf("%s: no error", name)
			s.Close()
		}
		if got, err := os.ReadFile(name); string(got) != "mine" {
			t.Errorf("%s is lost: %v", name, err)
		}
		if err := os.RemoveAll(private); err != nil {
			t.Fatal(err)
		}
	}
}
