// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Scratch is a directory for the files of one run, on a local file system.
type Scratch struct {
	Dir  string
	lock *os.File // the directory itself, locked as long as this process lives
}

// NewScratch makes a directory named prefix-<pid>-<random> below parent (empty:
// the system's own for temporary files), readable by its owner alone, and first
// removes those of former runs that ended without Close. removed says how many.
func NewScratch(parent, prefix string) (s *Scratch, removed int, err error) {
	if parent == "" {
		parent = os.TempDir()
	}
	if removed, err = removeLeft(parent, prefix); err != nil {
		return nil, removed, err
	}
	dir, err := os.MkdirTemp(parent, fmt.Sprintf("%s-%d-", prefix, os.Getpid()))
	if err != nil {
		return nil, removed, fmt.Errorf("making a scratch directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		os.RemoveAll(dir)
		return nil, removed, fmt.Errorf("locking scratch directory %s: %w", dir, err)
	}
	return &Scratch{dir, lock}, removed, nil
}

// Path joins a name to the directory.
func (s *Scratch) Path(name string) string { return filepath.Join(s.Dir, name) }

// Close removes the directory with everything in it.
func (s *Scratch) Close() error {
	err := os.RemoveAll(s.Dir)
	return errors.Join(err, s.lock.Close())
}

// removeLeft removes directories whose lock nobody holds: unlike a process id, a
// lock is never somebody else's, in no process namespace.
func removeLeft(parent, prefix string) (int, error) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return 0, fmt.Errorf("looking for what a former run left: %w", err)
	}
	removed := 0
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix+"-") {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		lock, err := lockDir(dir)
		if err != nil {
			continue // in use, or not ours
		}
		err = os.RemoveAll(dir)
		lock.Close()
		if err != nil {
			return removed, fmt.Errorf("removing what a former run left: %w", err)
		}
		removed++
	}
	return removed, nil
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
