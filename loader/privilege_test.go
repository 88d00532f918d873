// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// limit leaves this thread only these capabilities until the test ends.
func (m *machine) limit(caps ...uint) {
	m.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all, some [2]unix.CapUserData
	m.must(unix.Capget(&header, &all[0]))
	for i := range all {
		some[i].Permitted = all[i].Permitted // to get them back
	}
	for _, c := range caps {
		some[c/32].Effective |= 1 << (c % 32)
	}
	m.must(unix.Capset(&header, &some[0]))
	m.Cleanup(func() { _ = unix.Capset(&header, &all[0]) })
}

func TestWithoutCapabilities(t *testing.T) {
	m := newMachine(t)
	m.limit(unix.CAP_NET_ADMIN, unix.CAP_NET_RAW)
	_, err := Open(m.options)
	wantError(t, err, ErrPermission, "needs CAP_BPF and CAP_NET_ADMIN (have: CAP_NET_ADMIN, CAP_NET_RAW)")
	_, err = MakePlan(m.options, nil, ModeAuto)
	wantError(t, err, ErrPermission)
	_, err = Unload(m.options)
	wantError(t, err, ErrPermission)
	m.wantNothing()
}

// The unit's four capabilities are enough for all of it: make, attach, adopt,
// exchange, change the mode, look, unload.
func TestWithTheServicesCapabilities(t *testing.T) {
	m := newMachine(t)
	m.limit(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW)
	i := m.open()
	if len(i.Warnings) != 0 {
		t.Errorf("warnings: %q", i.Warnings)
	}
	m.attach(i, ModeXDP, "edge0")
	m.must(i.Listen(netip.MustParseAddrPort("[::]:7626"), 0))
	first := m.attached("edge0")
	m.must(i.Keep())
	m.must(i.Close())

	j := m.open()
	m.attach(j, ModeXDP, "edge0")
	if second := m.attached("edge0"); !j.Adopted || second == nil || second.ID == first.ID {
		t.Errorf("adopted %v, on edge0 %v, before %v", j.Adopted, second, first)
	}
	m.attach(j, ModeGeneric, "edge0")
	m.attach(j, ModeXDP, "edge0")
	s, err := ReadStatus(m.options)
	m.must(err)
	if len(s.Attachments) != 1 || s.Attachments[0].Degraded != "" || s.Attachments[0].Mode != ModeXDP {
		t.Errorf("status: %+v", s)
	}
	m.must(j.Close())
	_, err = Unload(m.options)
	m.must(err)
	m.wantNothing("edge0")
}

func TestWithoutPerfmonItWarns(t *testing.T) {
	m := newMachine(t)
	m.limit(unix.CAP_BPF, unix.CAP_NET_ADMIN)
	plan, err := MakePlan(m.options, nil, ModeAuto)
	m.must(err)
	if len(plan.Warnings) != 1 {
		t.Errorf("warnings: %q", plan.Warnings)
	}
}
