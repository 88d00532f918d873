// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// The pinned links of an instance change as a whole: a second directory is
// filled with those that are to be, and changes places with the first in one
// step. Whatever is in the second directory afterwards is of the past, and
// what a process that was killed has left there never was.

// A bpf file system takes no dot in a name, and an interface's name may have one.
var pinEscapes = strings.NewReplacer("%", "%25", ".", "%2E")
var pinUnescapes = strings.NewReplacer("%25", "%", "%2E", ".")

func (p *pins) link(iface string) string { return linkIn(p.links, iface) }

func linkIn(dir, iface string) string { return filepath.Join(dir, pinEscapes.Replace(iface)) }

// linkNames returns the interfaces that have a pinned link.
func (p *pins) linkNames() ([]string, error) { return linksIn(p.links) }

func linksIn(dir string) ([]string, error) {
	// To look into it takes a descriptor, which may be what is lacking.
	if there, err := isDir(dir); err != nil || !there {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the pinned links: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, pinUnescapes.Replace(e.Name()))
	}
	return names, nil
}

// stageLinks fills the second directory: with the new links, and with those of
// the pinned ones that stay.
func (p *pins) stageLinks(fresh map[string]link.Link, stays func(name string) bool) error {
	if err := p.discardStaged(); err != nil {
		return err
	}
	if err := os.Mkdir(p.staged, 0o700); err != nil {
		return err
	}
	for name, l := range fresh {
		if err := l.Pin(linkIn(p.staged, name)); err != nil {
			return err
		}
	}
	names, err := p.linkNames()
	if err != nil {
		return err
	}
	for _, name := range names {
		if fresh[name] != nil || !stays(name) {
			continue
		}
		if err := os.Link(p.link(name), linkIn(p.staged, name)); err != nil {
			return err
		}
	}
	return nil
}

// commitLinks makes what is staged the instance's links.
func (p *pins) commitLinks() error {
	err := unix.Renameat2(unix.AT_FDCWD, p.staged, unix.AT_FDCWD, p.links, unix.RENAME_EXCHANGE)
	if errors.Is(err, fs.ErrNotExist) { // no links so far
		err = os.Rename(p.staged, p.links)
	}
	return err
}

// discardStaged empties and removes the second directory. Links that are not
// among the instance's are detached.
func (p *pins) discardStaged() error {
	names, err := linksIn(p.staged)
	if err != nil {
		return err
	}
	var ours map[link.ID]bool
	for _, name := range names {
		if ours == nil {
			if ours, err = p.linkIDs(); err != nil {
				return err
			}
		}
		if err := dropLink(linkIn(p.staged, name), ours); err != nil {
			return err
		}
	}
	return removeDir(p.staged)
}

// linkIDs returns the kernel's ids of the instance's links.
func (p *pins) linkIDs() (map[link.ID]bool, error) {
	names, err := p.linkNames()
	if err != nil {
		return nil, err
	}
	ids := make(map[link.ID]bool)
	for _, name := range names {
		l, err := openLink(p.link(name))
		if err != nil {
			return nil, err
		}
		if l == nil {
			continue
		}
		info, err := l.Info()
		l.Close()
		if err != nil {
			return nil, fmt.Errorf("reading the link pinned for %s: %w", name, err)
		}
		ids[info.ID] = true
	}
	return ids, nil
}

// openLink opens a pinned link; nil if there is none.
func openLink(path string) (link.Link, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the pinned link %s: %w", path, err)
	}
	return l, nil
}

// unpinLink detaches a pinned link, whoever else holds it, and removes its pin.
func unpinLink(path string) error { return dropLink(path, nil) }

// dropLink removes a link's pin, and detaches it unless it is one of keep.
func dropLink(path string, keep map[link.ID]bool) error {
	l, err := openLink(path)
	if err != nil || l == nil {
		return err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return fmt.Errorf("reading the pinned link %s: %w", path, err)
	}
	if keep[info.ID] {
		return l.Unpin()
	}
	return removeLink(l)
}

func removeLink(l link.Link) error {
	// Detached at once, not when the kernel comes to free it. A link whose
	// interface has gone is detached already: nothing to report.
	_ = l.Detach()
	return l.Unpin()
}
