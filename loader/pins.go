// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
)

// Where pins lie unless Options say otherwise.
const (
	DefaultBPFFS    = "/sys/fs/bpf"
	DefaultInstance = "default"
)

// Options name an instance.
type Options struct {
	BPFFS    string // where the BPF file system is mounted; "" is DefaultBPFFS
	Instance string // "" is DefaultInstance
	Slots    uint32 // size of the session table; 0: that of the pins, else maps.DefaultSlots
	Sockets  bool   // this process puts sockets into Instance.Maps.XSKs: ModeAFXDP can be

	Log *slog.Logger // nil: slog.Default
}

func (o *Options) log() *slog.Logger {
	if o.Log == nil {
		return slog.Default()
	}
	return o.Log
}

// pins are the paths of an instance.
type pins struct {
	bpffs  string
	base   string // of all instances
	root   string // of this one
	maps   string
	fresh  string // maps that are being pinned, before they are renamed to maps
	links  string
	staged string // links that are being pinned, before they change places with links
	kept   string
	offer  string // roam_socket, while a daemon is asked to take it
}

var instanceName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

func (o *Options) pins() (pins, error) {
	bpffs, instance := o.BPFFS, o.Instance
	if bpffs == "" {
		bpffs = DefaultBPFFS
	}
	if instance == "" {
		instance = DefaultInstance
	}
	if !instanceName.MatchString(instance) {
		return pins{}, fmt.Errorf("%q is not the name of an instance: 1 to 32 letters, digits, '-' and '_'", instance)
	}
	base := filepath.Join(bpffs, "xdp-roam")
	root := filepath.Join(base, instance)
	return pins{
		bpffs: bpffs, base: base, root: root, maps: filepath.Join(root, "maps"), fresh: filepath.Join(root, "maps-new"),
		links: filepath.Join(root, "links"), staged: filepath.Join(root, "links-new"), kept: filepath.Join(root, "kept"),
		offer: filepath.Join(root, "roam_socket"),
	}, nil
}

// MapsDir returns where the instance's maps are pinned, or why no maps can be.
func (o Options) MapsDir() (string, error) {
	p, err := o.pins()
	if err != nil {
		return "", err
	}
	return p.maps, checkBPFFS(p.bpffs)
}

// checkBPFFS makes sure that pins can be made in dir.
func checkBPFFS(dir string) error {
	var st unix.Statfs_t
	switch err := unix.Statfs(dir, &st); {
	case errors.Is(err, fs.ErrPermission):
		return &Error{
			Kind: ErrPermission, What: fmt.Sprintf("cannot access %s", dir), Err: err,
			fix: "run it as root: systemd mounts the BPF file system for root only",
		}
	case err != nil:
		return &Error{What: fmt.Sprintf("cannot access %s", dir), Err: err, fix: mountCommand(dir)}
	case uint32(st.Type) != unix.BPF_FS_MAGIC:
		return &Error{Kind: ErrUnsupported, What: fmt.Sprintf("no BPF file system is mounted at %s", dir), fix: mountCommand(dir)}
	}
	return nil
}

func mountCommand(dir string) string {
	return fmt.Sprintf("`mkdir -p %s && mount -t bpf bpf %s`, or choose another mount point with --bpffs", dir, dir)
}

// stageMaps pins the maps under a name at which nobody looks for them.
func (p *pins) stageMaps(set *maps.Set) error {
	if err := os.Mkdir(p.fresh, 0o700); err != nil {
		return err
	}
	return set.Pin(p.fresh)
}

// keep makes the pins an operator's.
func (p *pins) keep() error {
	if err := os.Mkdir(p.kept, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// commitMaps makes an instance of what is staged and linked. It comes last:
// what has no maps is no instance.
func (p *pins) commitMaps() error { return os.Rename(p.fresh, p.maps) }

// exist reports whether the instance has maps.
func (p *pins) exist() (bool, error) { return isDir(p.maps) }

// isKept reports whether the pins are an operator's.
func (p *pins) isKept() (bool, error) { return isDir(p.kept) }

func isDir(path string) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.IsDir(), err
}

// remove removes everything of an instance. It is gone with the first step;
// what a process that is killed leaves behind, the next load or unload clears.
// What cannot be detached keeps its pins, so that another try finds them.
func (p *pins) remove() error {
	if there, err := p.exist(); err != nil {
		return err
	} else if there {
		if err := errors.Join(removeDir(p.fresh), os.Rename(p.maps, p.fresh)); err != nil {
			return err
		}
	}
	if err := p.clear(); err != nil {
		return err
	}
	if err := p.removeRoot(); err != nil {
		if entries, readErr := os.ReadDir(p.root); readErr == nil && len(entries) > 0 {
			return fmt.Errorf("%s holds something that is not ours: %s: %w", p.root, entries[0].Name(), err)
		}
		return err
	}
	return nil
}

// clear removes what is no instance: what was staged, or has no maps any more.
// What else is in the directory stays.
func (p *pins) clear() error {
	if err := p.discardStaged(); err != nil {
		return err
	}
	names, err := p.linkNames()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, unpinLink(p.link(name)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return errors.Join(removeDir(p.fresh), removeDir(p.links), removeDir(p.kept), removeFile(p.offer))
}

// removeRoot removes the instance's directory, which is empty, and the base
// directory if no other instance is there.
func (p *pins) removeRoot() error {
	if err := os.Remove(p.root); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch err := os.Remove(p.base); {
	case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTEMPTY):
		return nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS), errors.Is(err, unix.EBUSY):
		return nil // a service manager made it for a daemon that is not root, or mounted it; empty, it is in nobody's way
	default:
		return err
	}
}

// removeFile removes a pin, if there is one.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeDir removes a directory of pins, if there is one.
func removeDir(dir string) error {
	// To look into it takes a descriptor, which may be what is lacking.
	if err := os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.Remove(dir)
}
