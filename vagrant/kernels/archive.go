// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// archive writes the cpio "newc" format that the kernel unpacks as its first
// root file system (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	w    *bufio.Writer
	n    int64 // bytes written, for alignment
	ino  int
	dirs map[string]bool
}

func newArchive(w io.Writer) *archive {
	return &archive{w: bufio.NewWriter(w), dirs: map[string]bool{".": true}}
}

func (a *archive) entry(name string, mode uint32, size int64, body io.Reader) error {
	a.ino++
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.ino, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	if err := a.write(header); err != nil {
		return err
	}
	if body != nil {
		n, err := io.Copy(a.w, body)
		if err != nil {
			return err
		}
		if n != size {
			return fmt.Errorf("%s changed while it was read", name)
		}
		a.n += n
	}
	return a.align()
}

func (a *archive) write(s string) error {
	n, err := a.w.WriteString(s)
	a.n += int64(n)
	if err != nil {
		return err
	}
	return a.align()
}

func (a *archive) align() error {
	pad := int(-a.n & 3)
	a.n += int64(pad)
	_, err := a.w.Write(make([]byte, pad))
	return err
}

// dir adds a directory and its parents.
func (a *archive) dir(name string) error {
	if a.dirs[name] {
		return nil
	}
	if err := a.dir(path.Dir(name)); err != nil {
		return err
	}
	a.dirs[name] = true
	return a.entry(name, 0o040755, 0, nil)
}

func (a *archive) file(name, source string, perm uint32) error {
	if err := a.dir(path.Dir(name)); err != nil {
		return err
	}
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return a.entry(name, 0o100000|perm, st.Size(), f)
}

// tree adds the regular files under source; a source that does not exist adds nothing.
func (a *archive) tree(name, source string) error {
	return filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && p == source {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(source, p)
		if err != nil {
			return err
		}
		return a.file(path.Join(name, filepath.ToSlash(rel)), p, 0o644)
	})
}

func (a *archive) close() error {
	if err := a.entry("TRAILER!!!", 0, 0, nil); err != nil {
		return err
	}
	return a.w.Flush()
}
