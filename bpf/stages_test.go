// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/bpf"
)

// Both stages police, each out of buckets of its own: what XDP lets through the
// socket stage does not refuse again, and what XDP cannot see into, the socket
// stage limits by itself.
func TestStages(t *testing.T) {
	inNamespace(t, func(p *plane) {
		g := newGroup(p)
		defer g.close()
		g.sink(true)
		g.loopbackMTU(1280)
		lo, err := link.AttachXDP(link.XDPOptions{Program: p.objs.RoamXdp, Interface: 1, Flags: link.XDPGenericMode})
		p.must(err)
		defer lo.Close()
		p.setHandshake(policyAuto)
		home := g.sender("127.0.0.1")
		defer unix.Close(home.fd)
		id := newID(newRand(t), 1, 0, testServerID)
		fragmented := append(dataPacket(id), make([]byte, 3000)...)
		const burst, sent = 3, 20
		for _, tt := range []struct {
			name     string
			limit    func(l *bpf.RoamRoamLimits)
			payload  []byte
			path     netip.AddrPort
			slotFlag uint8
			xdp, end tally // what each stage counts
		}{
			{"candidate, slot", func(l *bpf.RoamRoamLimits) { l.SlotCandidateBurst = burst }, dataPacket(id), server4, 0,
				tally{reasonCandidate: burst, reasonCandidateLimit: sent - burst}, tally{reasonCandidate: burst}},
			{"main, policed", func(l *bpf.RoamRoamLimits) { l.SlotCandidateBurst = burst }, dataPacket(id), home.addr, 1,
				tally{reasonMain: burst, reasonMainLimit: sent - burst}, tally{reasonMain: burst}},
			{"main", func(l *bpf.RoamRoamLimits) { l.SlotCandidateBurst = burst }, dataPacket(id), home.addr, 0,
				tally{reasonMain: sent}, tally{reasonMain: sent}},
			{"INIT", func(l *bpf.RoamRoamLimits) { l.UncookiedBurst = burst }, initPacket(), home.addr, 0,
				tally{reasonInit: burst, reasonRetry: sent - burst}, tally{reasonInit: burst}},
			{"fragments, slot", func(l *bpf.RoamRoamLimits) { l.SlotCandidateBurst = burst }, fragmented, server4, 0,
				tally{reasonFragment: 3 * sent}, tally{reasonCandidate: 2 * burst, reasonCandidateLimit: sent - 2*burst}},
			{"fragments, main", func(l *bpf.RoamRoamLimits) { l.SlotCandidateBurst = burst }, fragmented, home.addr, 0,
				tally{reasonFragment: 3 * sent}, tally{reasonMain: sent}},
			{"fragments, policed", func(l *bpf.RoamRoamLimits) { l.SlotCandidateBurst = burst }, fragmented, home.addr, 1,
				tally{reasonFragment: 3 * sent}, tally{reasonMain: 2 * burst, reasonMainLimit: sent - 2*burst}},
		} {
			limits := p.cfg.Limits
			p.forget()
			p.store(session{id: id, kind: bpf.RoamRoamKindROAM_KIND_ROAM, flags: tt.slotFlag, path: tt.path})
			p.configure(func(c *bpf.RoamRoamConfig) { tt.limit(&c.Limits) })
			for range sent {
				_, err := unix.Write(home.fd, tt.payload)
				p.must(err)
				g.receiver(tt.payload)
			}
			counted := p.counters()
			for stage, want := range map[bpf.RoamRoamStage]tally{stageXDP: tt.xdp, stageSocket: tt.end} {
				for reason, n := range counted[stage] {
					if reason := bpf.RoamRoamReason(reason); n != want[reason] && reason != reasonNotListener { // the RETRYs come in again
						t.Errorf("%s: stage %d counted %d under reason %d, want %d", tt.name, stage, n, reason, want[reason])
					}
				}
			}
			p.configure(func(c *bpf.RoamRoamConfig) { c.Limits = limits })
		}
	})
}

// tally is how often each reason is counted.
type tally map[bpf.RoamRoamReason]uint64

// loopbackMTU makes larger datagrams go in fragments.
func (g *group) loopbackMTU(mtu uint32) {
	g.t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	g.must(err)
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	g.must(err)
	lo.SetUint32(mtu)
	g.must(unix.IoctlIfreq(fd, unix.SIOCSIFMTU, lo))
}
