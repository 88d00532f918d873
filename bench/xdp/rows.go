// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/bench/report"
	"github.com/xdp-roam/xdp-roam/bpf"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// options are the command's flags.
type options struct {
	pairs    int
	runs     int
	largest  int
	onlyInit bool
	cpu      int
}

// Names of the programs in a loaded harness.
const (
	product      = harnessProgram
	stubReturn   = "harness_return"
	stubShrink   = "harness_shrink"
	bareDrop     = "bare_drop"
	smallTable   = 1 << 10
	millionTable = 1 << 20
	largeTable   = 8 << 20
)

// Values of variant in variant.bpf.c.
const (
	variantSlot = iota
	variantHash
	variantNone
)

func measure(o options) ([]report.Row, error) {
	var rows []report.Row
	for _, sessions := range []int{smallTable, millionTable, largeTable} {
		if sessions > o.largest || o.onlyInit {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s sessions\n", sizeName(sessions))
		more, err := measureTable(o, sessions)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	fmt.Fprintln(os.Stderr, "handshakes")
	more, err := measureInit(o)
	if err != nil {
		return nil, err
	}
	return inOrder(append(rows, more...)), nil
}

func inOrder(rows []report.Row) []report.Row {
	var sorted []report.Row
	for n := 1; n <= 6; n++ {
		for _, r := range rows {
			if r.Row == n {
				sorted = append(sorted, r)
			}
		}
	}
	return sorted
}

func sizeName(sessions int) string {
	if sessions >= 1<<20 {
		return fmt.Sprintf("%d M", sessions>>20)
	}
	return fmt.Sprintf("%d k", sessions>>10)
}

// paired runs a and b in turn and returns how much more a took than b, for each
// pair, and b's times.
func paired(pairs int, a, b func() (float64, error)) (net, base []float64, err error) {
	for range pairs {
		y, err := b()
		if err != nil {
			return nil, nil, err
		}
		x, err := a()
		if err != nil {
			return nil, nil, err
		}
		net, base = append(net, x-y), append(base, y)
	}
	return net, base, nil
}

// productSpec is the committed data plane, with AF_XDP redirects.
func productSpec() (*ebpf.CollectionSpec, error) {
	spec, err := bpf.LoadRoam()
	if err != nil {
		return nil, err
	}
	return spec, spec.Variables["xsk_enabled"].Set(true)
}

// dataPayload is a DATA packet of 64 bytes; the harness fills the id in.
func dataPayload() []byte {
	b := make([]byte, 64)
	b[0] = wire.TypeData
	return b
}

// measureTable gives rows 1 to 5 for one number of sessions, in as many slots: the
// allocator stops at 75 %, but what costs is the memory that packets touch.
func measureTable(o options, sessions int) ([]report.Row, error) {
	spec, err := productSpec()
	if err != nil {
		return nil, err
	}
	b, err := load("roam_xdp", spec, map[string]uint32{"slots": uint32(sessions)}, nil, o.runs)
	if err != nil {
		return nil, err
	}
	defer b.close()
	if err := b.configurePlane(nil); err != nil {
		return nil, err
	}
	if err := fillSlots(b.Maps["slots"]); err != nil {
		return nil, err
	}
	name := sizeName(sessions)
	var rows []report.Row
	if sessions == smallTable {
		if err := b.giveFrame(dataPayload(), oneID); err != nil {
			return nil, err
		}
		net, base, err := paired(o.pairs,
			func() (float64, error) { return b.testRun(product, xdpRedirect) },
			func() (float64, error) { return b.testRun(stubReturn, xdpDrop) })
		if err != nil {
			return nil, err
		}
		rows = append(rows, report.AtMost(1, "known id, hot, AF_XDP redirect", "ns", net, 40, peer("harness alone", base)))
	}
	if goal := map[int]float64{millionTable: 135, largeTable: 190}[sessions]; goal != 0 {
		if err := b.giveFrame(dataPayload(), liveIDs); err != nil {
			return nil, err
		}
		net, base, err := paired(o.pairs,
			func() (float64, error) { return b.liveRun(product, xdpRedirect) },
			func() (float64, error) { return b.liveRun(stubReturn, xdpDrop) })
		if err != nil {
			return nil, err
		}
		rows = append(rows, report.AtMost(2, "known ids, random, live frames, "+name, "ns", net, goal, peer("generator", base)))
		lookup, err := measureLookup(o, b, sessions)
		if err != nil {
			return nil, err
		}
		rows = append(rows, lookup)
	}
	forged, err := measureForged(o, b, sessions)
	return append(rows, forged...), err
}

func peer(name string, values []float64) *report.Peer {
	return &report.Peer{Name: name, Value: report.Median(values)}
}

// measureForged gives rows 3 and 5: made-up ids, whatever the table holds.
func measureForged(o options, b *bench, sessions int) ([]report.Row, error) {
	if err := b.giveFrame(dataPayload(), forged); err != nil {
		return nil, err
	}
	net, base, err := paired(o.pairs,
		func() (float64, error) { return b.testRun(product, xdpDrop) },
		func() (float64, error) { return b.testRun(stubReturn, xdpDrop) })
	if err != nil {
		return nil, err
	}
	name := sizeName(sessions)
	rows := []report.Row{report.AtMost(3, "forged ids, "+name, "ns", net, 25, peer("harness alone", base))}
	if sessions == millionTable {
		return rows, nil
	}
	var rates, bare []float64
	for range o.pairs {
		times := map[string]float64{}
		for _, program := range []string{bareDrop, stubReturn, product} {
			want := uint32(xdpDrop)
			if program == bareDrop { // has no harness that counts
				want = 0
			}
			if times[program], err = b.liveRun(program, want); err != nil {
				return nil, err
			}
		}
		// What the harness adds is the generator's, not the program's.
		dropped := times[product] - (times[stubReturn] - times[bareDrop])
		rates = append(rates, times[bareDrop]/dropped)
		bare = append(bare, 1000/times[bareDrop])
	}
	return append(rows, report.AtLeast(5, "forged-id drop rate / bare XDP_DROP, "+name, "x", rates, 0.8,
		peer("bare, Mpps", bare))), nil
}

// measureLookup gives row 4: the same fast path with the slot table and with a
// BPF hash map, both net of it without a lookup.
func measureLookup(o options, b *bench, sessions int) (report.Row, error) {
	shared := map[string]*ebpf.Map{}
	for _, name := range []string{"slots", "config", "listeners", "cpus", "xsks", "harness_configs", "harness_frames"} {
		shared[name] = b.Maps[name]
	}
	variants := map[int]*bench{}
	for _, v := range []int{variantSlot, variantHash, variantNone} {
		spec, err := loadVariant()
		if err != nil {
			return report.Row{}, err
		}
		if err := spec.Variables["variant"].Set(uint32(v)); err != nil {
			return report.Row{}, err
		}
		if err := spec.Variables["xsk_enabled"].Set(true); err != nil {
			return report.Row{}, err
		}
		entries := uint32(1)
		if v == variantHash {
			entries = uint32(sessions)
		}
		vb, err := load("variant_xdp", spec, map[string]uint32{
			"hash": entries, "slots": uint32(sessions),
		}, shared, o.runs)
		if err != nil {
			return report.Row{}, err
		}
		defer vb.close()
		vb.frame = b.frame
		variants[v] = vb
	}
	if err := fillHash(variants[variantHash].Maps["hash"]); err != nil {
		return report.Row{}, err
	}
	var times [3][]float64
	var ratios []float64
	for range o.pairs {
		var t [3]float64
		for v, vb := range variants {
			var err error
			if t[v], err = vb.liveRun(product, xdpRedirect); err != nil {
				return report.Row{}, err
			}
		}
		for v := range t {
			times[v] = append(times[v], t[v]-t[variantNone])
		}
		ratios = append(ratios, (t[variantHash]-t[variantNone])/(t[variantSlot]-t[variantNone]))
	}
	goal := 4.5
	if sessions > millionTable {
		goal = 5
	}
	name := fmt.Sprintf("lookup %.0f ns, against a BPF hash map's, %s", report.Median(times[variantSlot]), sizeName(sessions))
	return report.AtLeast(4, name, "x", ratios, goal, peer("hash, ns", times[variantHash])), nil
}

// measureInit gives row 6.
func measureInit(o options) ([]report.Row, error) {
	spec, err := productSpec()
	if err != nil {
		return nil, err
	}
	b, err := load("roam_xdp", spec, map[string]uint32{"slots": 1024}, nil, o.runs)
	if err != nil {
		return nil, err
	}
	defer b.close()
	mac1 := handshake.NewMAC1Key(handshake.PublicKey{1})
	cookies := handshake.NewCookies([32]byte{2}, 0)
	packet := initPacket(mac1)

	configure := func() (now uint32, err error) {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil {
			return 0, err
		}
		const base = 1 << 30
		now = uint32(ts.Sec) + base
		return now, b.configurePlane(func(c *bpf.RoamRoamConfig) {
			c.UnixBase = base
			c.CookiePolicy = uint8(bpf.RoamRoamCookiePolicyROAM_COOKIE_ALWAYS)
			c.Mac1Keys[0] = sipKey(mac1)
			for e := now/60 - 1; e <= now/60+1; e++ {
				c.CookieKeys[e%4] = bpf.RoamRoamCookieKey{Key: sipKey(cookies.Key(uint64(e))), Epoch: e}
			}
		})
	}
	retry, retryBase, err := paired(o.pairs,
		func() (float64, error) {
			if _, err := configure(); err != nil {
				return 0, err
			}
			if err := b.giveFrame(packet, restore); err != nil {
				return 0, err
			}
			return b.testRun(product, xdpTX)
		},
		func() (float64, error) {
			if err := b.giveFrame(packet, restore); err != nil {
				return 0, err
			}
			return b.testRun(stubShrink, xdpTX)
		})
	if err != nil {
		return nil, err
	}
	pass, passBase, err := paired(o.pairs,
		func() (float64, error) {
			now, err := configure()
			if err != nil {
				return 0, err
			}
			cookie := cookies.Make(now, wire.ID(packet[8:24]), clientAddr, serverAddr)
			copy(packet[24:], cookie[:])
			if err := b.giveFrame(packet, asItIs); err != nil {
				return 0, err
			}
			return b.testRun(product, xdpPass)
		},
		func() (float64, error) { return b.testRun(stubReturn, xdpDrop) })
	if err != nil {
		return nil, err
	}
	return []report.Row{
		report.AtMost(6, "INIT without a cookie, RETRY by XDP_TX", "ns", retry, 130, peer("shrinking alone", retryBase)),
		report.AtMost(6, "INIT with a good cookie, passed", "ns", pass, 120, peer("harness alone", passBase)),
	}, nil
}

// initPacket is an INIT with the right mac1; XDP looks at no other of its secrets.
func initPacket(key handshake.MAC1Key) []byte {
	b := make([]byte, wire.InitLen)
	b[0] = wire.TypeInit
	binary.BigEndian.PutUint32(b[4:], wire.Version1)
	for i := 48; i < 80; i++ {
		b[i] = byte(i)
	}
	sum := key.Sum(b)
	copy(b[40:], sum[:])
	return b
}

func sipKey(k [16]byte) bpf.RoamRoamSipkey {
	return bpf.RoamRoamSipkey{K0: binary.LittleEndian.Uint64(k[:8]), K1: binary.LittleEndian.Uint64(k[8:])}
}
