// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bpf_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/xdp-roam/xdp-roam/bpf"
)

// twins are the data plane and its reference over the same sessions, keys and
// listeners.
type twins struct {
	*plane
	ref    *reference
	frames [][]byte // each kind of packet in each shape of headers
	noise  [][]byte // each first byte, with random ones behind it
}

func newTwins(t testing.TB) *twins {
	p := newPlane(t)
	ref := &reference{
		listeners: map[netip.AddrPort]bool{server4: true, server6: true},
		serverID:  testServerID, mac1: testMAC1Key, cookies: testCookies, now: testTime, always: true,
		sessions: map[sessionID]session{},
	}
	ref.keys[0], ref.keys[1] = idKeys[0], idKeys[1]
	p.setHandshake(policyAlways)

	tw := &twins{plane: p, ref: ref}
	r := rand.New(rand.NewPCG(1, 2)) // the same seeds in every run of the fuzzer
	for _, fam := range families {
		for i, kind := range []bpf.RoamRoamKind{
			bpf.RoamRoamKindROAM_KIND_ROAM, bpf.RoamRoamKindROAM_KIND_QUIC, bpf.RoamRoamKindROAM_KIND_DTLS,
		} {
			slot := uint32(i + 1)
			if fam.client == client6 {
				slot += 8
			}
			s := session{id: newID(r, slot, i%2, testServerID), kind: kind, path: fam.client}
			p.store(s)
			ref.sessions[s.id] = s
			tw.add(fam, s.id)
		}
		tw.add(fam, newID(r, 100, 1, testServerID))
		tw.add(fam, newID(r, 1, 0, 0))
		tw.addPayload(fam, initPacket())
		tw.addPayload(fam, withCookie(initPacket(), testTime, fam.client, fam.server))
		tw.addPayload(fam, version(3))
		for first := range 256 {
			payload := randomBytes(r, 1+r.IntN(60))
			payload[0] = byte(first)
			for _, b := range shapes(frame{src: fam.client, dst: fam.server, payload: payload}) {
				tw.noise = append(tw.noise, b)
			}
		}
	}
	return tw
}

// add makes a packet of each protocol for an id.
func (tw *twins) add(fam family, id sessionID) {
	for _, payload := range [][]byte{dataPacket(id), quicShort(id), quicLong(id[:])[:60], dtls12(id), dtls13(id)} {
		tw.addPayload(fam, payload)
	}
}

func (tw *twins) addPayload(fam family, payload []byte) {
	for _, b := range shapes(frame{src: fam.client, dst: fam.server, payload: payload}) {
		tw.frames = append(tw.frames, b)
	}
}

// agree runs one frame through both.
func (tw *twins) agree(b []byte) {
	tw.t.Helper()
	if len(b) < 14 || len(b) > 3000 {
		return // no Ethernet frame, or more than a test run takes
	}
	if monotonic(tw.t)+tw.cfg.UnixBase > testTime+8 { // before the reference's cookies expire
		tw.setUnix(testTime)
	}
	want := tw.ref.judge(b)
	got := tw.run(b)
	if got.reason != want || got.action != actionOf(want) {
		tw.t.Errorf("data plane: reason %d, action %d; reference: reason %d; frame %x", got.reason, got.action, want, b)
	}
}

func TestDissectorAgainstGo(t *testing.T) {
	tw := newTwins(t)
	for _, b := range slices.Concat(tw.frames, tw.noise) {
		tw.agree(b)
	}
}

// Every packet cut off at every length.
func TestTruncated(t *testing.T) {
	tw := newTwins(t)
	for _, b := range tw.frames {
		if len(b) > 300 { // an INIT: each byte of its headers, then in steps
			for n := 300; n < len(b); n += 97 {
				tw.agree(b[:n])
			}
			b = b[:300]
		}
		for n := 14; n < len(b); n++ {
			tw.agree(b[:n])
		}
	}
}

func TestMutated(t *testing.T) {
	tw := newTwins(t)
	r := newRand(t)
	all := slices.Concat(tw.frames, tw.noise)
	for range 40_000 {
		b := slices.Clone(all[r.IntN(len(all))])
		for range 1 + r.IntN(4) {
			mutate(r, &b)
		}
		tw.agree(b)
		if t.Failed() {
			return
		}
	}
}

// mutate changes a frame where parsers decide: most often in its headers.
func mutate(r *rand.Rand, b *[]byte) {
	at := 12 + r.IntN(60)
	if at >= len(*b) {
		at = r.IntN(len(*b))
	}
	switch r.IntN(6) {
	case 0:
		(*b)[at] ^= 1 << r.IntN(8)
	case 1:
		(*b)[at] = byte(r.Uint32())
	case 2:
		(*b)[at] = []byte{0, 1, 0x45, 0x60, 0x81, 0xff, 6, 17, 43, 44, 60}[r.IntN(11)]
	case 3:
		*b = (*b)[:14+r.IntN(len(*b)-13)]
	case 4:
		*b = append(*b, randomBytes(r, r.IntN(40))...)
	case 5:
		n := min(1+r.IntN(16), len(*b)-at)
		copy((*b)[at:at+n], (*b)[r.IntN(len(*b)-n+1):])
	}
}

// FuzzFrame: whatever the frame, the data plane and the reference agree, and it
// is counted exactly once.
func FuzzFrame(f *testing.F) {
	seeds := newTwins(f)
	for i, b := range slices.Concat(seeds.frames, seeds.noise) {
		if i%23 == 0 { // the tests above run them all
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tw := *seeds
		tw.plane = seeds.on(t)
		tw.agree(b)
	})
}
