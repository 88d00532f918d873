// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/bpf"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

const (
	testSlots    = 1024
	plenty       = 1 << 20 // a burst that no test reaches
	stageXDP     = bpf.RoamRoamStageROAM_STAGE_XDP
	stageSocket  = bpf.RoamRoamStageROAM_STAGE_SOCKET
	reasonCount  = int(bpf.RoamRoamReasonROAM_REASON_MAX)
	testServerID = 0x1234
)

// XDP's actions, as the kernel numbers them.
const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpTX       = 3
	xdpRedirect = 4
)

// plane is a loaded data plane with small maps. Its programs run on one CPU,
// so that the buckets and counters of that CPU are all of them.
type plane struct {
	t    testing.TB
	objs *bpf.RoamObjects
	cfg  bpf.RoamRoamConfig
	cpu  uint32
}

var idKeys = [2]bpf.RoamRoamSipkey{
	{K0: 0x0706050403020100, K1: 0x0f0e0d0c0b0a0908},
	{K0: 0x1716151413121110, K1: 0x1f1e1d1c1b1a1918},
}

// loadPlane loads the programs, with AF_XDP redirects or without.
func loadPlane(xsk bool) (*bpf.RoamObjects, error) {
	spec, err := bpf.LoadRoam()
	if err != nil {
		return nil, err
	}
	spec.Maps["slots"].MaxEntries = testSlots
	if err := errors.Join(spec.Variables["xsk_enabled"].Set(xsk), spec.Variables["xsk_interface"].Set(uint32(3))); err != nil {
		return nil, err
	}
	var objs bpf.RoamObjects
	if err := spec.LoadAndAssign(&objs, nil); err != nil {
		var verifier *ebpf.VerifierError
		if errors.As(err, &verifier) {
			return nil, fmt.Errorf("%+v", verifier)
		}
		return nil, err
	}
	return &objs, nil
}

// Loading takes the verifier a while: the tests share one data plane of each
// kind and start from cleared maps.
var (
	planeUDP = sync.OnceValues(func() (*bpf.RoamObjects, error) { return loadPlane(false) })
	planeXSK = sync.OnceValues(func() (*bpf.RoamObjects, error) { return loadPlane(true) })
)

func newPlane(t testing.TB) *plane    { return openPlane(t, planeUDP) }
func newXSKPlane(t testing.TB) *plane { return openPlane(t, planeXSK) }

func openPlane(t testing.TB, load func() (*bpf.RoamObjects, error)) *plane {
	testutil.RequirePrivileged(t)
	objs, err := load()
	if err != nil {
		t.Fatalf("loading the data plane: %v", err)
	}
	p := &plane{t: t, objs: objs}
	p.pinToCPU()
	p.clear()
	p.configure(func(c *bpf.RoamRoamConfig) {
		c.Schema = 3
		c.SlotMask = testSlots - 1
		c.ServerId = testServerID
		c.IdKeys[0], c.IdKeys[1] = schedule(idKeys[0]), schedule(idKeys[1])
		c.CookiePolicy = uint8(bpf.RoamRoamCookiePolicyROAM_COOKIE_NEVER)
		c.Limits = bpf.RoamRoamLimits{
			CandidateBurst: plenty, SlotCandidateBurst: plenty, HandshakeBurst: plenty, UncookiedBurst: plenty,
			TraceBurst: plenty, ResetBurst: plenty, VersionBurst: plenty, SlowBurst: plenty,
		}
	})
	p.listen(server4, 0, 0)
	p.listen(server6, 0, 0)
	return p
}

// on is the same data plane for a subtest, which has a thread of its own.
func (p *plane) on(t testing.TB) *plane {
	sub := *p
	sub.t = t
	sub.pinToCPU()
	return &sub
}

// pinToCPU keeps this test on one CPU to its end.
func (p *plane) pinToCPU() {
	before := p.pin()
	p.t.Cleanup(func() {
		p.must(unix.SchedSetaffinity(0, &before))
		runtime.UnlockOSThread()
	})
}

// pin locks the goroutine to its thread and the thread to the test's CPU.
func (p *plane) pin() (before unix.CPUSet) {
	runtime.LockOSThread()
	p.must(unix.SchedGetaffinity(0, &before))
	for !before.IsSet(int(p.cpu)) {
		p.cpu++
	}
	var one unix.CPUSet
	one.Set(int(p.cpu))
	p.must(unix.SchedSetaffinity(0, &one))
	return before
}

func (p *plane) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// clear empties the maps that tests write.
func (p *plane) clear() {
	for i := range uint32(testSlots) {
		p.must(p.objs.Slots.Put(i, bpf.RoamRoamSlot{}))
	}
	for i := range p.objs.Listeners.MaxEntries() {
		p.must(p.objs.Listeners.Put(i, bpf.RoamRoamListener{}))
	}
	p.forget()
}

// forget zeroes this CPU's counters and buckets.
func (p *plane) forget() { p.must(p.objs.Cpus.Put(p.cpu, bpf.RoamRoamCpu{})) }

func (p *plane) configure(change func(c *bpf.RoamRoamConfig)) {
	p.t.Helper()
	change(&p.cfg)
	p.must(p.objs.Config.Put(uint32(0), p.cfg))
}

// mapped returns an address as the data plane holds it.
func mapped(a netip.Addr) [2]uint64 {
	b := a.As16()
	return [2]uint64{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
}

func networkOrder(port uint16) uint16 { return bits.ReverseBytes16(port) }

// listenerHash is bpf/listener.h's listener_hash.
func listenerHash(addr [2]uint64, port uint16) uint32 {
	return uint32((addr[0] ^ addr[1] ^ uint64(port)) * 0x9e3779b97f4a7c15 >> 56)
}

func (p *plane) listen(addr netip.AddrPort, index uint16, flags uint32) {
	p.t.Helper()
	l := bpf.RoamRoamListener{Port: networkOrder(addr.Port()), Index: index, Flags: flags}
	if !addr.Addr().IsUnspecified() {
		l.Addr = mapped(addr.Addr())
	}
	p.listenAt(listenerHash(l.Addr, l.Port), l)
}

func (p *plane) listenAt(place uint32, l bpf.RoamRoamListener) {
	p.t.Helper()
	p.must(p.objs.Listeners.Put(place%p.objs.Listeners.MaxEntries(), l))
}

// sessionID is an id of the server's own.
type sessionID [16]byte

func (id sessionID) words() [2]uint64 {
	return [2]uint64{binary.LittleEndian.Uint64(id[:8]), binary.LittleEndian.Uint64(id[8:])}
}

// slot is the index that the id names in the tests' table.
func (id sessionID) slot() uint32 { return binary.LittleEndian.Uint32(id[:]) % testSlots }

// newID draws an id for a slot under a generation of the test's keys.
func newID(r *rand.Rand, slot uint32, generation int, serverID uint16) sessionID {
	var id sessionID
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	word := binary.LittleEndian.Uint32(id[:])
	word = word&^(testSlots-1|3<<28) | slot%testSlots | uint32(generation)<<28
	binary.LittleEndian.PutUint32(id[:], word)
	tag := uint32(sip13(idKeys[generation], id[:12])) ^ uint32(serverID)
	binary.LittleEndian.PutUint32(id[12:], tag)
	return id
}

// session is what a test puts into a slot.
type session struct {
	id    sessionID
	kind  bpf.RoamRoamKind
	owner uint16
	flags uint8
	path  netip.AddrPort // the validated address; zero: none yet
}

func (p *plane) store(s session) {
	p.t.Helper()
	slot := bpf.RoamRoamSlot{
		Id:      s.id.words(),
		Control: uint64(s.owner) | uint64(s.kind)<<16 | uint64(s.flags)<<24,
	}
	if s.path.IsValid() {
		slot.Addr, slot.Port = mapped(s.path.Addr()), networkOrder(s.path.Port())
	}
	p.must(p.objs.Slots.Put(s.id.slot(), slot))
}

func (p *plane) slotOf(id sessionID) (s bpf.RoamRoamSlot) {
	p.t.Helper()
	p.must(p.objs.Slots.Lookup(id.slot(), &s))
	return s
}

type counters [2][reasonCount]uint64

func (p *plane) counters() counters {
	p.t.Helper()
	var cpu bpf.RoamRoamCpu
	p.must(p.objs.Cpus.Lookup(p.cpu, &cpu))
	return cpu.Packets
}

// result is what one packet brought about in XDP.
type result struct {
	action uint32
	out    []byte
	reason bpf.RoamRoamReason
}

// run sends one frame through roam_xdp and insists that exactly one counter,
// of the XDP stage, went up by exactly one.
func (p *plane) run(in []byte) result { return p.runContext(in, nil) }

func (p *plane) runContext(in []byte, context any) result {
	p.t.Helper()
	before := p.counters()
	out := make([]byte, 4096)
	opts := &ebpf.RunOptions{Data: in, DataOut: out, Context: context}
	action, err := p.objs.RoamXdp.Run(opts)
	if err != nil {
		p.t.Fatalf("test run: %v: frame %.200x", err, in)
	}
	reason, err := countedOnce(before, p.counters(), stageXDP)
	if err != nil {
		p.t.Fatalf("%v: frame %.200x", err, in)
	}
	return result{action, opts.DataOut, reason}
}

// countedOnce finds the one reason that was counted between two readings.
func countedOnce(before, after counters, stage bpf.RoamRoamStage) (bpf.RoamRoamReason, error) {
	reason, n := 0, uint64(0)
	for s := range after {
		for r := range after[s] {
			delta := after[s][r] - before[s][r]
			if delta != 0 && s != int(stage) {
				return 0, fmt.Errorf("counted at stage %d", s)
			}
			if delta != 0 {
				reason = r
			}
			n += delta
		}
	}
	if n != 1 {
		return 0, fmt.Errorf("counted %d times", n)
	}
	return bpf.RoamRoamReason(reason), nil
}

// monotonic is the clock that the data plane reads, in whole seconds.
func monotonic(t testing.TB) uint32 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil {
		t.Fatal(err)
	}
	return uint32(ts.Sec)
}

// runAt runs a packet at t o'clock of the data plane: once more where a busy machine
// took it over the second's end.
func (p *plane) runAt(t uint32, in []byte) result {
	p.t.Helper()
	for {
		began := p.setUnix(t)
		if r := p.run(in); monotonic(p.t) == began {
			return r
		}
	}
}

// setUnix makes it t o'clock for the data plane, early in the second, so that
// it stays t for what the test does next. It returns what monotonic does now.
func (p *plane) setUnix(t uint32) uint32 {
	p.t.Helper()
	for {
		var ts unix.Timespec
		p.must(unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts))
		if ts.Nsec < int64(600*time.Millisecond) {
			p.configure(func(c *bpf.RoamRoamConfig) { c.UnixBase = t - uint32(ts.Sec) })
			return uint32(ts.Sec)
		}
		time.Sleep(time.Duration(1e9 - ts.Nsec))
	}
}

// dataPacket is a DATA packet for an id, of the smallest size.
func dataPacket(id sessionID) []byte {
	b := make([]byte, 41)
	b[0] = 0x0c
	copy(b[8:], id[:])
	return b
}

func newRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("random seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
