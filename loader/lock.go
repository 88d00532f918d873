// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lock is the right to write to an instance. The kernel takes it back when the
// process ends, however it ends.
type lock struct {
	dir *os.File
}

// acquire locks the instance's directory, which it makes if create is set. An
// instance that another process holds is a conflict.
func acquire(p *pins, create bool) (*lock, error) {
	for {
		made := false
		if create {
			// Two levels, each of which an unload may remove meanwhile.
			for _, dir := range []string{p.base, p.root} {
				err := os.Mkdir(dir, 0o700)
				if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
					return nil, err
				}
				made = err == nil
			}
		}
		dir, err := os.Open(p.root)
		if errors.Is(err, fs.ErrNotExist) && create {
			continue
		}
		if err != nil {
			if made {
				err = errors.Join(err, p.removeRoot())
			}
			return nil, err
		}
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			defer dir.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, heldBy(dir, p)
			}
			return nil, err
		}
		// The directory may have been removed, and another made, between
		// open and flock: then this lock is on nothing.
		if same, err := stillAt(dir, p.root); err != nil || !same {
			dir.Close()
			if err != nil {
				return nil, err
			}
			continue
		}
		return &lock{dir}, nil
	}
}

func (l *lock) release() error {
	if l == nil {
		return nil
	}
	return l.dir.Close()
}

// changeLinks waits for the right to change links and pins. A daemon holds its
// instance for as long as it runs, an upgrade exchanges programs meanwhile:
// both take this for a moment. The instance is there, so its base is too.
func (p *pins) changeLinks() (*lock, error) { return p.lockLinks(unix.LOCK_EX) }

// errBusy means that another process has the right to change links.
var errBusy = errors.New("another process is changing links")

// tryChangeLinks is changeLinks for who must not wait: a daemon that did might be what
// the other process waits for. It fails with errBusy.
func (p *pins) tryChangeLinks() (*lock, error) {
	l, err := p.lockLinks(unix.LOCK_EX | unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errBusy
	}
	return l, err
}

func (p *pins) lockLinks(how int) (*lock, error) {
	dir, err := os.Open(p.base)
	if err != nil {
		return nil, diagnose(opLock, err, facts{dir: p.base})
	}
	for {
		err := unix.Flock(int(dir.Fd()), how)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			dir.Close()
			return nil, diagnose(opLock, err, facts{dir: p.base})
		}
		return &lock{dir}, nil
	}
}

func stillAt(dir *os.File, path string) (bool, error) {
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	opened, err := dir.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(now, opened), nil
}

func heldBy(dir *os.File, p *pins) error {
	who := "another process"
	if pid := lockOwner(dir); pid > 0 {
		who = fmt.Sprintf("process %d", pid)
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil {
			who += " (" + strings.TrimSpace(string(name)) + ")"
		}
	}
	return &Error{
		Kind: ErrConflict, What: fmt.Sprintf("the instance in %s is in use", p.root), Cause: who + " holds it",
		fix: "stop it first, or use another --instance on another port",
	}
}

// lockOwner returns the process that holds a lock on the file, or 0.
func lockOwner(f *os.File) int {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return 0
	}
	defer locks.Close()
	return findLock(locks, fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino))
}

// findLock looks for the holder of a file in the format of /proc/locks:
// "1: FLOCK  ADVISORY  WRITE 1234 00:2a:5678 0 EOF". A waiting process has an
// arrow before FLOCK.
func findLock(locks io.Reader, file string) int {
	lines := bufio.NewScanner(locks)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) >= 6 && f[1] == "FLOCK" && f[5] == file {
			pid, _ := strconv.Atoi(f[4])
			return max(pid, 0)
		}
	}
	return 0
}
