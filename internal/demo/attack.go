// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// An attack makes one hostile packet after another. source is whose address it
// bears; invalid: the attacker's own. ok is false when there is none to make
// yet, since nothing was captured.
type attack func() (p hostile, ok bool)

type hostile struct {
	source, to netip.AddrPort
	payload    []byte
}

// Names of attacks, as orders and reports use them.
const (
	AttackReplay          = "replay"              // captured packets of the client, from the attacker's address
	AttackReplayDown      = "replay-to-client"    // captured packets of the edge, under the edge's address
	AttackForge           = "forge"               // the client's id, invented contents, from the attacker's address
	AttackForgeSpoof      = "forge-spoofed"       // the same under the client's own address
	AttackForgeFlood      = "forge-flood"         // as forge
	AttackRandomIDs       = "random-ids"          // invented ids, from everywhere
	AttackInits           = "spoofed-inits"       // INITs that a client could have sent, from everywhere
	AttackBlindInits      = "blind-inits"         // INITs of somebody who does not know the server's key
	AttackReplayInit      = "replay-init"         // the client's own INIT with its cookie, from the attacker's address
	AttackReplayInitSpoof = "replay-init-spoofed" // the same under the client's address
)

// arsenal is what the attacks draw on.
type arsenal struct {
	sniffer *sniffer
	servers []netip.AddrPort
	mac1    handshake.MAC1Key
}

// attack returns the named attack; nil for a name that is none.
func (a *arsenal) attack(name string) attack {
	switch name {
	case AttackReplay:
		return a.resend(anyUp, false)
	case AttackReplayDown:
		return a.resend(anyDown, true)
	case AttackReplayInit:
		return a.resend(anyInit, false)
	case AttackReplayInitSpoof:
		return a.resend(anyInit, true)
	case AttackForge, AttackForgeFlood:
		return a.forge(false)
	case AttackForgeSpoof:
		return a.forge(true)
	case AttackRandomIDs:
		return a.randomID
	case AttackInits:
		return func() (hostile, bool) { return a.init(true) }
	case AttackBlindInits:
		return func() (hostile, bool) { return a.init(false) }
	}
	return nil
}

// resend sends captured packets again, byte for byte.
func (a *arsenal) resend(choose func(*sniffer) (captured, bool), spoof bool) attack {
	return func() (hostile, bool) {
		c, ok := a.sniffer.pick(choose)
		h := hostile{to: c.to, payload: c.payload}
		if spoof {
			h.source = c.from
		}
		return h, ok
	}
}

// forge invents a packet under the id that the client uses at present: the
// header is all that an eavesdropper can know, the rest cannot be right. The
// counter is ahead of the client's, as that of a newest packet would be.
func (a *arsenal) forge(spoof bool) attack {
	return func() (hostile, bool) {
		c, ok := a.sniffer.pick(newestUp)
		if !ok {
			return hostile{}, false
		}
		payload := noise(len(c.payload))
		counter, id, err := wire.ParseData(c.payload)
		if err != nil {
			return hostile{}, false
		}
		wire.PutDataHeader(payload, counter+1+rand.Uint64N(1000), id)
		h := hostile{to: c.to, payload: payload}
		if spoof {
			h.source = c.from
		}
		return h, true
	}
}

func (a *arsenal) randomID() (hostile, bool) {
	payload := noise(100 + rand.IntN(200))
	var id wire.ID
	copy(id[:], noise(len(id)))
	wire.PutDataHeader(payload, rand.Uint64N(1<<20), id)
	return a.fromEverywhere(payload), true
}

// init makes an INIT that holds up to the point where only the server's private
// key could tell: with a good mac1, since the public key is no secret, or
// without.
func (a *arsenal) init(knowsKey bool) (hostile, bool) {
	var hid wire.ID
	copy(hid[:], noise(len(hid)))
	packet := wire.NewInit(make([]byte, wire.InitLen), hid)
	copy(packet.Noise(), noise(len(packet.Noise())))
	sum := [wire.MAC1Len]byte(noise(wire.MAC1Len))
	if knowsKey {
		sum = a.mac1.Sum(packet)
	}
	packet.SetMAC1(sum)
	return a.fromEverywhere(packet), true
}

// fromEverywhere addresses a packet to the server under a source that nobody has.
func (a *arsenal) fromEverywhere(payload []byte) hostile {
	h := hostile{to: a.servers[rand.IntN(len(a.servers))], payload: payload}
	port := uint16(1024 + rand.IntN(1<<16-1024))
	if h.to.Addr().Is4() { // 198.18.0.0/15, RFC 2544
		h.source = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18 + byte(rand.IntN(2)), byte(rand.IntN(256)), byte(1 + rand.IntN(254))}), port)
		return h
	}
	source := netip.MustParseAddr("2001:db8:f00d::").As16()
	copy(source[6:], noise(10))
	h.source = netip.AddrPortFrom(netip.AddrFrom16(source), port)
	return h
}

// noise is bytes without meaning; nothing depends on how random they are.
func noise(length int) []byte {
	b := make([]byte, 0, length+8)
	for len(b) < length {
		b = binary.LittleEndian.AppendUint64(b, rand.Uint64())
	}
	return b[:length]
}
