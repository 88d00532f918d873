// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"fmt"
	"strings"
)

// Mode is how packets are steered to their sessions.
type Mode string

// The modes.
const (
	// ModeAuto takes ModeXDP where driver and kernel can do it, else
	// ModeSocket, and says why.
	ModeAuto Mode = "auto"
	// ModeXDP runs roam_xdp in the driver.
	ModeXDP Mode = "xdp"
	// ModeGeneric runs roam_xdp in the stack: any interface, but slower than
	// the driver, so only when asked for.
	ModeGeneric Mode = "generic"
	// ModeSocket leaves the interfaces alone: roam_socket does it all.
	ModeSocket Mode = "socket"
	// ModeAFXDP adds AF_XDP sockets to ModeXDP. Not in this release.
	ModeAFXDP Mode = "afxdp"
)

// ParseMode reads a mode's name; "native" is another name of "xdp".
func ParseMode(name string) (Mode, error) {
	if name == "native" {
		return ModeXDP, nil
	}
	modes := []string{string(ModeAuto), string(ModeXDP), string(ModeGeneric), string(ModeSocket), string(ModeAFXDP)}
	for _, m := range modes {
		if name == m {
			return Mode(m), nil
		}
	}
	return "", fmt.Errorf("no mode %q; the modes are %s", name, strings.Join(modes[:4], ", "))
}

// available refuses what this release cannot do.
func (m Mode) available() error {
	switch m {
	case ModeAuto, ModeXDP, ModeGeneric, ModeSocket:
		return nil
	case ModeAFXDP:
		return &Error{
			Kind: ErrUnsupported, What: "mode afxdp is not in this release",
			fix: "use mode xdp, the same filter with ordinary UDP sockets behind it, or auto",
		}
	}
	return &Error{What: fmt.Sprintf("there is no mode %q", m), fix: "the modes are auto, xdp, generic and socket"}
}

// choose picks the mode for an interface and says why. The error is why the
// mode that was asked for cannot be; in ModeAuto only a conflict is one.
func choose(nic *Interface, asked Mode) (Mode, string, error) {
	switch asked {
	case ModeSocket:
		return ModeSocket, "asked for", nil
	case ModeGeneric:
		return ModeGeneric, "asked for; slower than in the driver", nic.checkXDP(ModeGeneric)
	case ModeXDP:
		return ModeXDP, "asked for", nic.checkXDP(ModeXDP)
	}
	if err := nic.checkXDP(ModeXDP); err != nil {
		return ModeSocket, "no XDP: " + causeOf(err), nil
	}
	return ModeXDP, fmt.Sprintf("driver %s has native XDP", nic.Driver), nil
}
