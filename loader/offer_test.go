// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// What is offered is there while the daemon is asked, and gone after it, whatever the
// daemon says; what a killed one left is replaced, and removed with the instance.
func TestOfferSocketProgram(t *testing.T) {
	m := newMachine(t)
	pin := filepath.Join(m.options.BPFFS, "xdp-roam/test/roam_socket")
	gone := func() {
		t.Helper()
		if _, err := os.Stat(pin); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the pin: %v", err)
		}
	}
	if err := OfferSocketProgram(m.options, nil); err == nil {
		t.Error("offered where nothing is loaded")
	}
	i := m.open()
	m.attach(i, ModeXDP, "edge0")
	for range 2 {
		asked := false
		m.must(OfferSocketProgram(m.options, func() error {
			asked = true
			return i.TakeSocketProgram()
		}))
		if !asked {
			t.Error("nobody was asked")
		}
		gone()
	}
	if err := i.TakeSocketProgram(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing is offered: %v", err)
	}
	refused := errors.New("refused")
	if err := OfferSocketProgram(m.options, func() error { return refused }); !errors.Is(err, refused) {
		t.Errorf("a refusal: %v", err)
	}
	gone()
	m.must(i.Maps.Sockets.PinProgram(pin)) // as one that was killed would leave it
	m.must(OfferSocketProgram(m.options, i.TakeSocketProgram))
	gone()
	m.must(i.Maps.Sockets.PinProgram(pin))
	m.must(i.Close())
	m.wantNothing("edge0")
}
