// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/cilium/ebpf"
)

// OfferSocketProgram has the daemon of an instance take this version's roam_socket for
// its sockets, which are its own: it pins the program where TakeSocketProgram looks for
// it, calls ask, which asks the daemon to do that, and removes the pin again.
func OfferSocketProgram(o Options, ask func() error) (err error) {
	p, err := o.pins()
	if err != nil {
		return err
	}
	changing, err := p.changeLinks() // of two that offer, one after the other
	if err != nil {
		return err
	}
	defer changing.release()
	set, err := adopt(&p, 0)
	if err != nil {
		return err
	}
	defer set.Close()
	programs, err := set.LoadPrograms(ebpf.ProgramOptions{})
	if err != nil {
		return diagnose(opLoad, err, facts{})
	}
	programs.XDP.Close()
	// One that was killed may have left its pin.
	if err := errors.Join(removeFile(p.offer), set.Sockets.PinProgram(p.offer)); err != nil {
		return fmt.Errorf("pinning roam_socket: %w", err)
	}
	defer func() { err = errors.Join(err, removeFile(p.offer)) }()
	// The daemon may be another user than whoever offers.
	if info, err := os.Stat(p.root); err != nil {
		return err
	} else if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(p.offer, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return ask()
}

// TakeSocketProgram has the sockets of this process use the roam_socket that
// OfferSocketProgram offers, in one step.
func (i *Instance) TakeSocketProgram() error { return i.Maps.Sockets.TakeProgram(i.pins.offer) }
