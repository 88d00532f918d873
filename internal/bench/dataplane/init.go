// SPDX-License-Identifier: Apache-2.0

//go:build linux

package dataplane

import (
	"context"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/bpf"
	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/report"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// measureInit gives row 6.
func measureInit(ctx context.Context, o Options) ([]report.Row, error) {
	b, err := newPlane(o, smallTable)
	if err != nil {
		return nil, err
	}
	defer b.Close()
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
		return now, b.ConfigurePlane(func(c *bpf.RoamRoamConfig) {
			c.UnixBase = base
			c.CookiePolicy = uint8(bpf.RoamRoamCookiePolicyROAM_COOKIE_ALWAYS)
			c.Mac1Keys[0] = sipKey(mac1)
			for e := now/60 - 1; e <= now/60+1; e++ {
				c.CookieKeys[e%4] = bpf.RoamRoamCookieKey{Key: sipKey(cookies.Key(uint64(e))), Epoch: e}
			}
		})
	}
	retry, retryBase, err := paired(ctx, o.Pairs,
		func() (float64, error) {
			if _, err := configure(); err != nil {
				return 0, err
			}
			if err := b.GiveFrame(harness.Somewhere.AppendFrame(nil, packet), harness.Restore); err != nil {
				return 0, err
			}
			return b.TestRun(harness.Tested, harness.TX)
		},
		func() (float64, error) {
			if err := b.GiveFrame(harness.Somewhere.AppendFrame(nil, packet), harness.Restore); err != nil {
				return 0, err
			}
			return b.TestRun(harness.OnlyShrink, harness.TX)
		})
	if err != nil {
		return nil, err
	}
	pass, passBase, err := paired(ctx, o.Pairs,
		func() (float64, error) {
			now, err := configure()
			if err != nil {
				return 0, err
			}
			cookie := cookies.Make(now, wire.ID(packet[8:24]), harness.Somewhere.Source, harness.Somewhere.Dest)
			copy(packet[24:], cookie[:])
			if err := b.GiveFrame(harness.Somewhere.AppendFrame(nil, packet), harness.AsItIs); err != nil {
				return 0, err
			}
			return b.TestRun(harness.Tested, harness.Pass)
		},
		func() (float64, error) { return b.TestRun(harness.OnlyReturn, harness.Drop) })
	if err != nil {
		return nil, err
	}
	return []report.Row{
		report.AtMost(6, "INIT without a cookie, answered with RETRY by XDP_TX", "ns", retry, 130).Against("shrinking the frame alone", "ns", retryBase, nil),
		report.AtMost(6, "INIT with a valid cookie, passed", "ns", pass, 120).Against("harness alone", "ns", passBase, nil),
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
