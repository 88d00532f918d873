// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"fmt"
	"slices"
	"strings"
)

// Mode is how packets are steered to their sessions.
type Mode string

// The modes.
const (
	// ModeAuto takes ModeAFXDP where the process has sockets for it and driver and
	// kernel can do it, else ModeXDP, else ModeSocket, and says why.
	ModeAuto Mode = "auto"
	// ModeAFXDP is ModeXDP with an AF_XDP socket of the process behind each
	// receive queue, for the main lane.
	ModeAFXDP Mode = "afxdp"
	// ModeXDP runs roam_xdp in the driver.
	ModeXDP Mode = "xdp"
	// ModeGeneric runs roam_xdp in the stack: any interface, but slower than
	// the driver, so only when asked for.
	ModeGeneric Mode = "generic"
	// ModeSocket leaves the interfaces alone: roam_socket does it all.
	ModeSocket Mode = "socket"
)

var modes = []Mode{ModeAuto, ModeAFXDP, ModeXDP, ModeGeneric, ModeSocket}

func modeNames() string {
	var names []string
	for _, m := range modes {
		names = append(names, string(m))
	}
	return strings.Join(names, ", ")
}

// ParseMode reads a mode's name; "native" is another name of "xdp".
func ParseMode(name string) (Mode, error) {
	if name == "native" {
		return ModeXDP, nil
	}
	if m := Mode(name); slices.Contains(modes, m) {
		return m, nil
	}
	return "", fmt.Errorf("no mode %q; the modes are %s", name, modeNames())
}

// attached is how the kernel shows a program that runs in the mode.
func (m Mode) attached() Mode {
	if m == ModeAFXDP {
		return ModeXDP
	}
	return m
}

// available refuses what cannot be on any interface. sockets: Options.Sockets.
func (m Mode) available(sockets bool) error {
	switch {
	case !slices.Contains(modes, m):
		return &Error{What: fmt.Sprintf("there is no mode %q", m), fix: "the modes are " + modeNames()}
	case m == ModeAFXDP && !sockets:
		return &Error{
			Kind: ErrUnsupported, What: "mode afxdp needs a running daemon, which owns the AF_XDP sockets",
			fix: "use `xdp-roam run --mode afxdp`; it replaces what `load` attached in mode native",
		}
	}
	return nil
}

// choose picks the mode for an interface and says why. The error is why the
// mode that was asked for cannot be; in ModeAuto only a conflict is one.
func choose(nic *Interface, asked Mode, sockets bool) (Mode, string, error) {
	switch asked {
	case ModeSocket:
		return ModeSocket, "asked for", nil
	case ModeGeneric:
		return ModeGeneric, "asked for; slower than in the driver", nic.checkXDP(ModeGeneric)
	case ModeXDP:
		return ModeXDP, "asked for", nic.checkXDP(ModeXDP)
	case ModeAFXDP:
		return ModeAFXDP, "asked for", nic.checkAFXDP()
	}
	if err := nic.checkXDP(ModeXDP); err != nil {
		return ModeSocket, "no XDP: " + causeOf(err), nil
	}
	reason := fmt.Sprintf("driver %s has native XDP", nic.Driver)
	if !sockets {
		return ModeXDP, reason, nil
	}
	if err := nic.checkAFXDP(); err != nil {
		return ModeXDP, reason + "; no AF_XDP: " + causeOf(err), nil
	}
	return ModeAFXDP, reason + " and the kernel AF_XDP", nil
}
