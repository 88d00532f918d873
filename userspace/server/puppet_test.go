// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// puppet is a client that answers as a session.Session does, and keeps next to
// nothing: a million of them leave the memory and the cache to the server that is
// measured. It shares no code with the server but package wire.
type puppet struct {
	c2s, s2c [32]byte
	n        uint32 // its number, and so its address in each network
	network  byte
	port     uint16
	ids      [4]puppetID // of the server, those in use and above, in order of seq
	counter  uint64      // of ids[0]
	top      uint32      // highest seq of ours that was issued
	used     uint32      // highest that the server has sent on
}

type puppetID struct {
	seq uint32
	id  wire.ID
}

// puppets are clients of a bareServer.
type puppets struct {
	*bareServer
	all     []puppet
	to      []*Session      // at the server, of the puppet at the same place
	sent    []netio.Message // what the puppets send next
	taken   []netio.Message // what they have sent before
	answers []netio.Message // what the server has sent
	memory  []byte          // the packets of all three
	now     session.Time

	keys           map[wire.ID]puppetKey
	nonce          [12]byte
	reply, control []byte
}

// puppetKey is the key of an id, built for as long as a batch of packets takes.
type puppetKey struct {
	aead cipher.AEAD
	iv   [12]byte
}

// openPuppets makes sessions, half-open as a handshake leaves them, and has each
// puppet confirm its own. The clock stands still meanwhile, or the first would have
// fallen idle when the last are opened.
func openPuppets(t testing.TB, b *bareServer, n int) *puppets {
	t.Helper()
	return openPuppetsIn(t, b, 10, n, (*puppets).derive)
}

// openPuppetsIn opens the sessions of puppets in a network, as begin makes them.
func openPuppetsIn(t testing.TB, b *bareServer, network byte, n int, begin func(*puppets, testing.TB, *puppet) *Session) *puppets {
	t.Helper()
	p := &puppets{
		bareServer: b, all: make([]puppet, n), to: make([]*Session, n), keys: make(map[wire.ID]puppetKey),
		memory: make([]byte, 0, 1<<20), now: b.clock.now(),
	}
	p.answer = p.hearLater
	start := p.clock.start
	defer func() { p.clock.start = start }()
	for i := range p.all {
		if i%batchSize == 0 {
			p.clock.start = time.Now().Add(-p.now)
		}
		c := &p.all[i]
		*c = puppet{n: uint32(i), network: network, port: 1024, top: 2}
		p.to[i] = begin(p, t, c)
		p.send(c, wire.AppendDatagram(wire.AppendPing(nil, 1), []byte("x")))
		for len(p.sent) > 0 {
			p.reader.batch(p.now, p.take())
			p.hear()
		}
		p.read(i)
		select {
		case <-b.accepted:
		default:
			t.Fatal("the session was not opened")
		}
		if c.ids[2].seq != 2 {
			t.Fatal("the server has not issued its ids")
		}
	}
	return p
}

// derive makes a puppet's session out of random secrets: all that a handshake leaves
// behind, without its price.
func (p *puppets) derive(t testing.TB, c *puppet) *Session {
	t.Helper()
	rand.Read(c.c2s[:])
	rand.Read(c.s2c[:])
	var key handshake.PublicKey
	rand.Read(key[:])
	s, first, err := p.newSession(p.workers[int(c.n)%len(p.workers)], key, "", 7)
	if err != nil {
		t.Fatal(err)
	}
	c.ids[0] = puppetID{0, first.ID}
	cfg := session.Config{
		C2S: c.c2s, S2C: c.s2c, Local: []session.LocalID{first}, MaxDatagram: 9000, PeerMaxDatagram: 9000,
		Path: session.Path{Remote: c.addr(), Local: benchLocal},
	}
	for seq := range uint32(3) {
		cfg.Remote = append(cfg.Remote, session.RemoteID{Seq: seq, ID: c.id(seq)})
	}
	s.told = p.addrs.Load()
	if err := s.start(cfg); err != nil {
		t.Fatal(err)
	}
	return s
}

// read takes what has come to a session's reader and returns how many datagrams.
func (p *puppets) read(i int) (n int) {
	var buf [2048]byte
	for {
		if _, err := p.to[i].ReceiveDatagram(noWait, buf[:]); err != nil {
			return n
		}
		n++
	}
}

func (c *puppet) addr() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{c.network, byte(c.n >> 16), byte(c.n >> 8), byte(c.n)}), c.port)
}

// id is an id that the puppet issues: nobody but its server has to guess it.
func (c *puppet) id(seq uint32) (id wire.ID) {
	id[0] = 1
	binary.BigEndian.PutUint32(id[4:], c.n)
	binary.BigEndian.PutUint32(id[8:], seq)
	return id
}

func (p *puppets) key(secret *[32]byte, seq uint32, id wire.ID) puppetKey {
	k, known := p.keys[id]
	if known {
		return k
	}
	info := append(binary.BigEndian.AppendUint32([]byte("roam1 id"), seq), id[:]...)
	okm, err := hkdf.Expand(sha256.New, secret[:], string(info), 44)
	if err != nil {
		panic(err)
	}
	block, err := aes.NewCipher(okm[:32])
	if err != nil {
		panic(err)
	}
	k.aead, err = cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	copy(k.iv[:], okm[32:])
	if len(p.keys) >= 1<<14 {
		clear(p.keys)
	}
	p.keys[id] = k
	return k
}

// nonceOf is the key's iv XOR the counter.
func (p *puppets) nonceOf(k puppetKey, counter uint64) []byte {
	p.nonce = k.iv
	for i := range 7 {
		p.nonce[11-i] ^= byte(counter >> (8 * i))
	}
	return p.nonce[:]
}

// room returns memory for a packet: it is used again when none is on its way.
func (p *puppets) room(n int) []byte {
	switch {
	case len(p.sent)+len(p.taken)+len(p.answers) == 0:
		p.memory = p.memory[:0]
	case cap(p.memory)-len(p.memory) < n:
		p.memory = make([]byte, 0, 2*cap(p.memory)) // what is used of the old one is kept by its slices
	}
	p.memory = p.memory[:len(p.memory)+n]
	return p.memory[len(p.memory)-n : len(p.memory) : len(p.memory)]
}

// send seals a packet of the frames.
func (p *puppets) send(c *puppet, frames []byte) {
	pkt := p.room(wire.Overhead + len(frames))
	id := c.ids[0]
	wire.PutDataHeader(pkt, c.counter, id.id)
	k := p.key(&c.c2s, id.seq, id.id)
	k.aead.Seal(pkt[wire.HeaderLen:wire.HeaderLen], p.nonceOf(k, c.counter), frames, pkt[:wire.HeaderLen])
	c.counter++
	p.sent = append(p.sent, netio.Message{Buf: pkt, N: len(pkt), Remote: c.addr(), Local: benchLocal})
}

// rebind is a NAT's doing: the puppet does not know, and sends.
func (p *puppets) rebind(c *puppet, datagram []byte) {
	c.port = 1024 + (c.port+1)%60000
	p.send(c, wire.AppendDatagram(nil, datagram))
}

// move goes to another network, on a new id.
func (p *puppets) move(c *puppet) {
	c.network ^= 1
	c.port = 1024 + (c.port+1)%60000
	copy(c.ids[:], c.ids[1:])
	c.ids[len(c.ids)-1] = puppetID{}
	c.counter = 0
	frames := wire.AppendPing(make([]byte, 0, 1200), 2)
	p.send(c, wire.AppendPad(frames, 1200-wire.Overhead-len(frames)))
}

// take returns what was sent since the last take, for a batch before the next.
func (p *puppets) take() []netio.Message {
	p.sent, p.taken = p.taken[:0], p.sent
	return p.taken
}

// hearLater keeps what the server sends: all that the sink of it costs the server is
// the copy.
func (p *puppets) hearLater(m netio.Message) {
	b := p.room(len(m.Buf))
	copy(b, m.Buf)
	m.Buf = b
	p.answers = append(p.answers, m)
}

// hear has the puppets answer what the server has sent to where they are now. It
// returns how many packets reached none.
func (p *puppets) hear() (lost int) {
	p.taken = p.taken[:0]
	for _, m := range p.answers {
		a := m.Remote.Addr().As4()
		c := &p.all[uint32(a[1])<<16|uint32(a[2])<<8|uint32(a[3])]
		if c.addr() != m.Remote {
			lost++
			continue
		}
		p.hears(c, m.Buf)
	}
	p.answers = p.answers[:0]
	return lost
}

// hears has a puppet answer a packet.
func (p *puppets) hears(c *puppet, pkt []byte) {
	counter, id, err := wire.ParseData(pkt)
	if err != nil {
		panic(err)
	}
	seq := binary.BigEndian.Uint32(id[8:])
	k := p.key(&c.s2c, seq, id)
	body := pkt[wire.HeaderLen:]
	plain, err := k.aead.Open(body[:0], p.nonceOf(k, counter), body, pkt[:wire.HeaderLen])
	if err != nil {
		panic(err)
	}
	reply, control := p.reply[:0], p.control[:0]
	if seq > c.used { // it gets another one, with a PING so that it says that it has it
		c.used = seq
		control = wire.AppendPing(control, 3)
		for ; c.top < seq+2; c.top++ {
			control = wire.AppendNewID(control, c.top+1, c.id(c.top+1), wire.Token{})
		}
	}
	var f wire.Frame
	for r := wire.NewFrameReader(plain); r.Next(&f); {
		switch f.Type {
		case wire.FramePing:
			reply = wire.AppendPong(reply, f.Token)
		case wire.FrameChallenge:
			reply = wire.AppendResponse(reply, f.Cookie)
		case wire.FrameNewID:
			for i := range c.ids {
				if c.ids[i].id == (wire.ID{}) {
					c.ids[i] = puppetID{f.Seq, f.ID}
				}
				if c.ids[i].seq == f.Seq {
					break
				}
			}
		case wire.FrameClose:
			panic("the server closes: " + f.ReasonText())
		}
	}
	for _, frames := range [][]byte{reply, control} {
		if len(frames) > 0 {
			p.send(c, frames)
		}
	}
	p.reply, p.control = reply, control
}
