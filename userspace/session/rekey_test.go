// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// talk lets datagrams pass in both directions for a while and checks that all come.
func (m *sim) talk(d time.Duration) {
	m.t.Helper()
	for end := m.now + d; m.now < end; {
		m.c.got, m.s.got = nil, nil
		m.clientSend("up")
		m.serverSend("down")
		m.run(time.Second)
		if len(m.c.got) != 1 || len(m.s.got) != 1 {
			m.t.Fatalf("%v: client got %q, server %q\n%+v\n%+v", m.now, m.c.got, m.s.got, m.c.Info(), m.s.Info())
		}
	}
}

func TestRekey(t *testing.T) {
	m := opened(t, 1)
	first := fmt.Sprintf("%x", m.c.c2s)
	m.talk(rekeyAfter - 5*time.Second)
	if m.c.Info().Epoch != 0 || m.s.Info().Epoch != 0 {
		t.Fatal("too early")
	}
	m.talk(10 * time.Second)
	for _, e := range []*end{&m.c, &m.s} {
		i := e.Info()
		k := e.epoch.change
		if i.Epoch != 1 || e.count(EventRekeyed) != 1 || e.c2s != m.c.c2s || e.s2c != m.s.s2c {
			t.Errorf("%v: %+v", e.role, i)
		}
		if k != nil && (e.rid.Seq < k.remoteFirst || e.pathLocal.Seq < k.localFirst) {
			t.Errorf("%v is on an old id", e.role)
		}
	}
	m.talk(10 * time.Second)
	for _, e := range []*end{&m.c, &m.s} {
		if i := e.Info(); i.Rekeying || i.LocalIDs != 3 || i.SpareRemoteIDs != 2 {
			t.Errorf("%v is not done with the old epoch: %+v", e.role, i)
		}
		if strings.Contains(snapshot(e.Session), first) {
			t.Errorf("%v remembers an old secret", e.role)
		}
	}
	m.talk(10 * rekeyAfter)
	if got := m.c.Info().Epoch; got < 9 || got > 11 {
		t.Errorf("epoch %d after 20 minutes more", got)
	}
}

// Without datagrams there is nothing to protect.
func TestRekeyIdle(t *testing.T) {
	m := opened(t, 1)
	m.c.options.keepalive = 25 * time.Second
	m.clientSend("once")
	m.run(10 * rekeyAfter)
	if got := m.c.Info().Epoch; got != 1 {
		t.Errorf("epoch %d, want 1", got)
	}
	m.serverSend("a download counts too")
	m.run(rekeyAfter)
	if got := m.c.Info().Epoch; got != 2 {
		t.Errorf("epoch %d, want 2", got)
	}
}

func TestRekeyPackets(t *testing.T) {
	m := opened(t, 1)
	m.c.rid.counter = rekeyPackets - 1
	m.clientSend("x")
	m.run(time.Second)
	if got := m.c.Info().Epoch; got != 1 {
		t.Errorf("client sent 2^27 packets: epoch %d", got)
	}
	m.run(20 * time.Second)
	m.s.rid.counter = rekeyPackets
	m.serverSend("x")
	m.run(time.Second)
	if got := m.c.Info().Epoch; got != 2 {
		t.Errorf("server sent 2^27 packets: epoch %d", got)
	}
}

// Whatever the network loses, both ends come to the same epoch and nothing is
// lost that the network did not lose.
func TestRekeyUnderLoss(t *testing.T) {
	for seed := range uint64(300) {
		m := opened(t, seed)
		loss := m.rng.Float64() * 0.5
		lost := 0
		m.network = func(f flight) []flight {
			if m.rng.Float64() < loss {
				lost++
				return nil
			}
			if m.rng.IntN(4) == 0 {
				f.at += time.Duration(m.rng.Int64N(int64(m.rtt)))
			}
			return []flight{f}
		}
		for range 5 {
			m.c.Rekey(m.now, &m.c.out)
			m.flush(&m.c)
			for range m.rng.IntN(20) {
				m.clientSend("up")
				m.serverSend("down")
				if m.rng.IntN(10) == 0 {
					m.move(m.c.Path().Socket+1, []netip.AddrPort{addrB, addrC}[m.rng.IntN(2)])
				}
				m.run(time.Duration(m.rng.Int64N(int64(time.Second))))
			}
		}
		m.network = nil
		m.run(time.Second)
		m.clientSend("x")
		m.serverSend("x")
		m.run(2 * maxOldAge)
		m.talk(3 * time.Second)
		m.run(20 * time.Second) // one that was due in between
		c, s := m.c.Info(), m.s.Info()
		if c.State != StateOpen || c.Epoch == 0 || c.Epoch != s.Epoch || c.Rekeying || s.Rekeying {
			t.Fatalf("seed %d, %d lost:\n%+v\n%+v", seed, lost, c, s)
		}
		if n := c.Counts[AuthFailed] + s.Counts[AuthFailed] + c.Counts[ProtocolError] + s.Counts[ProtocolError]; n != 0 {
			t.Fatalf("seed %d: %d packets did not open or broke the protocol", seed, n)
		}
	}
}

// beginRekey has the server answer a REKEY_INIT whose answer the client has not
// had yet; init is what the client sent.
func beginRekey(t *testing.T) (m *sim, init wire.Frame) {
	m = opened(t, 1)
	m.network = func(f flight) []flight {
		if f.toServer {
			return []flight{f}
		}
		return nil
	}
	m.c.Rekey(m.now, &m.c.out)
	k := m.c.epoch.change
	init = wire.Frame{Epoch: k.epoch, FirstSeq: k.localFirst, Noise: k.ours}
	m.flush(&m.c)
	m.run(m.rtt/2 + 1)
	if m.s.epoch.change == nil || m.s.Info().Epoch != 1 {
		t.Fatal("the server has not answered")
	}
	m.forget()
	return m, init
}

// Until the client shows that it has the new secrets, the server sends on the old
// ones, whatever its reasons to take another id.
func TestRekeyHoldsIDs(t *testing.T) {
	m, _ := beginRekey(t)
	first := m.s.epoch.change.remoteFirst
	for range 5 {
		m.s.rotate()
		if m.s.rid.Seq >= first {
			t.Fatalf("the server sends on id %d", m.s.rid.Seq)
		}
	}
	m.network = nil
	m.run(time.Second)
	m.clientSend("x")
	m.run(time.Second)
	if m.s.rid.Seq < first || m.s.count(EventRekeyed) != 1 {
		t.Errorf("the server sends on id %d: %v", m.s.rid.Seq, m.s.events)
	}
}

func TestRekeyRepeats(t *testing.T) {
	// The same again: the same answer.
	m, init := beginRekey(t)
	var answers []wire.Frame
	m.network = func(f flight) []flight {
		for _, fr := range m.framesTo([]flight{f}, addrA) {
			if fr.Type == wire.FrameRekeyResp {
				answers = append(answers, fr)
			}
		}
		return nil
	}
	for range 2 {
		m.inject(addrA, m.craft(&m.c, wire.AppendRekeyInit(nil, init.Epoch, init.FirstSeq, init.Noise)))
	}
	if len(answers) != 2 || answers[0].Noise != answers[1].Noise || answers[0].Noise != m.s.epoch.change.ours {
		t.Errorf("%d answers", len(answers))
	}
	// The next one before this one is done: not yet.
	if r := m.inject(addrA, m.craft(&m.c, wire.AppendRekeyInit(nil, 2, init.FirstSeq+2, init.Noise))); r != Delivered || m.s.Info().Counts[RekeyEarly] != 1 {
		t.Errorf("two rekeys at a time: %v", r)
	}
	// After it is confirmed, a late repeat is answered no more.
	m.network = nil
	m.run(time.Second)
	m.clientSend("x")
	m.run(time.Second)
	n := m.s.Info().Sent.Packets
	m.inject(addrA, m.craft(&m.c, wire.AppendRekeyInit(nil, init.Epoch, init.FirstSeq, init.Noise)))
	if i := m.s.Info(); i.Counts[RekeyLate] != 1 || i.Sent.Packets != n || i.State != StateOpen {
		t.Errorf("a late repeat: %+v", i)
	}
}

// A client that breaks the rules of rekeying loses its session.
func TestRekeyRefused(t *testing.T) {
	key := func(m *sim, epoch, first uint32) [48]byte {
		r, err := handshake.NewRekey(m.c.secrets(), epoch, first, m.c.source())
		if err != nil {
			t.Fatal(err)
		}
		return r.Message()
	}
	for name, frames := range map[string]func(m *sim) []byte{
		"skips an epoch": func(m *sim) []byte { return wire.AppendRekeyInit(nil, 2, 3, key(m, 2, 3)) },
		"seq in use":     func(m *sim) []byte { return wire.AppendRekeyInit(nil, 1, 0, key(m, 1, 0)) },
		"does not open":  func(m *sim) []byte { return wire.AppendRekeyInit(nil, 1, 3, key(m, 1, 4)) },
	} {
		m := opened(t, 1)
		if r := m.inject(addrA, m.craft(&m.c, frames(m))); r != ProtocolError || m.s.State() != StateClosing {
			t.Errorf("%s: %v, %v", name, r, m.s.State())
		}
	}
	for name, change := range map[string]func(*wire.Frame){
		"another message": func(f *wire.Frame) { f.Noise[0] ^= 1 },
		"another seq":     func(f *wire.Frame) { f.FirstSeq++ },
	} {
		m, init := beginRekey(t)
		change(&init)
		if r := m.inject(addrA, m.craft(&m.c, wire.AppendRekeyInit(nil, init.Epoch, init.FirstSeq, init.Noise))); r != ProtocolError {
			t.Errorf("%s for the same epoch: %v", name, r)
		}
	}
	// And a server.
	for name, change := range map[string]func(*wire.Frame){
		"does not open": func(f *wire.Frame) { f.Noise[47] ^= 1 },
		"seq in use":    func(f *wire.Frame) { f.FirstSeq = 0 },
		"other epoch":   func(f *wire.Frame) { f.Epoch = 7 },
	} {
		m, _ := beginRekey(t)
		k := m.s.epoch.change
		f := wire.Frame{Epoch: k.epoch, FirstSeq: k.localFirst, Noise: k.ours}
		change(&f)
		r := m.c.Receive(m.now, m.c.Path(), m.craft(&m.s, wire.AppendRekeyResp(nil, f.Epoch, f.FirstSeq, f.Noise)), &m.c.out)
		if f.Epoch == 7 {
			if m.c.Info().Counts[RekeyUnasked] != 1 || r != Delivered {
				t.Errorf("%s: %v", name, r)
			}
		} else if r != ProtocolError {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// Ids that we announced for an epoch that is not agreed on open nothing: with the
// old keys neither.
func TestRekeyAnnouncedIDs(t *testing.T) {
	m := opened(t, 1)
	m.network = cut
	m.c.Rekey(m.now, &m.c.out)
	m.flush(&m.c)
	l := m.c.local[len(m.c.local)-1]
	if l.Seq < m.c.epoch.change.localFirst {
		t.Fatal("no id was announced")
	}
	rid := &remoteID{RemoteID: RemoteID(l.LocalID)}
	if r := m.clientGets(m.craftOn(&m.s, rid, pingFrame(1))); r != AuthFailed {
		t.Error(r)
	}
}

// When the old secrets go, no path stays on an id of theirs.
func TestRekeyReplacesIDs(t *testing.T) {
	m, _ := beginRekey(t)
	m.network = nil
	m.run(5 * time.Second)
	m.c.Rekey(m.now, &m.c.out)
	m.flush(&m.c)
	m.run(m.rtt + 1)
	k := m.c.epoch.change
	if k == nil || !k.confirmed {
		t.Fatal("no second rekey")
	}
	old := &remoteID{RemoteID: RemoteID{Seq: k.remoteFirst - 1}, taken: true}
	m.c.remote = slices.Insert(m.c.remote, 0, old)
	m.c.finder.left = []leftPath{{path: Path{Socket: 9, Remote: serverAddr}, rid: old, until: 1 << 60}}
	m.c.race = &race{runners: []runner{{path: Path{Socket: 8, Remote: serverAddr}, rid: old}}}
	m.c.candidates = []candidate{{rid: old}}
	m.c.departures = []departure{{rid: old}}
	m.c.localMove = &localMove{rid: old}
	m.c.wipe(m.now, &m.c.out)
	for what, rid := range map[string]*remoteID{
		"left": m.c.finder.left[0].rid, "race": m.c.race.runners[0].rid, "candidate": m.c.candidates[0].rid,
		"departure": m.c.departures[0].rid, "local move": m.c.localMove.rid, "lowest": m.c.remote[0],
	} {
		if rid.Seq < k.remoteFirst {
			t.Errorf("%s: id %d", what, rid.Seq)
		}
	}
	// A server whose new ids all serve other paths shares one rather than end.
	m, _ = beginRekey(t)
	for _, r := range m.s.remote {
		r.taken = true
	}
	m.network = nil
	k = m.s.epoch.change
	k.confirmed, k.confirmedAt = true, m.now
	m.s.wipe(m.now, &m.s.out)
	if m.s.State() != StateOpen || m.s.rid.Seq < k.remoteFirst || m.s.Info().Rekeying {
		t.Errorf("%v on id %d", m.s.State(), m.s.rid.Seq)
	}
}

func TestRekeyErrors(t *testing.T) {
	m := opened(t, 1)
	if err := m.s.Rekey(m.now, &m.s.out); err != ErrNotClient {
		t.Error(err)
	}
	if err := newSim(t, 1).c.Rekey(0, &m.c.out); err != ErrNotConfirmed {
		t.Error(err)
	}
	m.c.Rekey(m.now, &m.c.out)
	k := m.c.epoch.change
	if err := m.c.Rekey(m.now, &m.c.out); err != nil || m.c.epoch.change != k {
		t.Error("a second rekey at the same time:", err)
	}
	m.c.Close(m.now, wire.CloseDone, "", &m.c.out)
	if err := m.c.Rekey(m.now, &m.c.out); err != ErrClosed {
		t.Error(err)
	}
	// Without randomness there is no rekey, and no harm.
	m = opened(t, 1)
	m.c.options.random = strings.NewReader("")
	m.c.Rekey(m.now, &m.c.out)
	m.flush(&m.c)
	if m.c.epoch.change != nil || m.c.State() != StateOpen {
		t.Error("a rekey without randomness")
	}
	m = opened(t, 1)
	m.s.options.random = strings.NewReader("")
	m.c.Rekey(m.now, &m.c.out)
	m.flush(&m.c)
	m.run(time.Second)
	if m.s.Info().Epoch != 0 || m.s.State() != StateOpen {
		t.Error("an answer without randomness")
	}
}

// An end without an id for the new epoch puts the rekey off.
func TestRekeyWithoutIDs(t *testing.T) {
	for _, role := range []Role{Client, Server} {
		m := opened(t, 1)
		ids := m.c.ids
		if role == Server {
			ids = m.s.ids
		}
		ids.fail = true
		m.talk(rekeyAfter + 30*time.Second)
		if got := m.s.Info().Epoch; got != 0 {
			t.Errorf("%v: epoch %d", role, got)
		}
		if role == Server && m.s.Info().Counts[RekeyEarly] == 0 {
			t.Error("not counted")
		}
		ids.fail = false
		m.talk(2 * rekeyAgain)
		if c, s := m.c.Info(), m.s.Info(); c.Epoch != 1 || s.Epoch != 1 {
			t.Errorf("%v: epochs %d and %d once there are ids", role, c.Epoch, s.Epoch)
		}
	}
	// Probes have used up all that may be live: the client makes room.
	m := opened(t, 1)
	m.c.issue(m.now, maxLive)
	m.c.ctl.want = true
	m.c.pushControl(m.now, &m.c.out)
	m.flush(&m.c)
	m.talk(rekeyAfter + 2*rekeyAgain)
	if c, s := m.c.Info(), m.s.Info(); c.Epoch != 1 || s.Epoch != 1 {
		t.Errorf("epochs %d and %d with 8 ids live", c.Epoch, s.Epoch)
	}
}

// A network that dies in the middle of a rekey keeps nobody from wiping the old
// secrets 60 s after the new ones are in use, nor from coming back.
func TestRekeyWipes(t *testing.T) {
	m, _ := beginRekey(t)
	old := m.c.c2s
	m.network = nil
	m.c.events = nil
	// The answer arrives; nothing of the client does from here on.
	m.network = func(f flight) []flight {
		if f.toServer {
			return nil
		}
		return []flight{f}
	}
	m.run(3 * time.Second)
	if m.c.Info().Epoch != 1 || m.s.epoch.change.confirmed {
		t.Fatalf("client in epoch %d", m.c.Info().Epoch)
	}
	m.serverSend("still on an old id")
	m.run(time.Second)
	if !slices.Contains(m.c.got, "still on an old id") {
		t.Error("the client does not open old ids any more")
	}
	m.run(maxOldAge)
	if m.c.Info().Rekeying || strings.Contains(snapshot(m.c.Session), fmt.Sprintf("%x", old)) {
		t.Error("the client keeps the old secrets")
	}
	for _, l := range m.c.local {
		if l.Seq < 3 {
			t.Errorf("id %d of the old epoch is live", l.Seq)
		}
	}
	m.network = nil
	m.clientSend("back")
	m.run(time.Second)
	m.talk(5 * time.Second)
	if s := m.s.Info(); s.Epoch != 1 || s.RemoteSeq < 3 {
		t.Errorf("server: %+v", s)
	}
	// A client that confirms but has issued no id: there is nothing to send on.
	m, _ = beginRekey(t)
	m.s.remote = m.s.remote[:slices.IndexFunc(m.s.remote, func(r *remoteID) bool { return r.Seq == 3 })]
	m.s.remoteTop = 10
	m.network = func(f flight) []flight {
		if f.toServer {
			return nil
		}
		return []flight{f}
	}
	m.run(2 * time.Second)
	m.network = nil
	m.clientSend("x")
	m.run(maxOldAge + time.Second)
	if m.s.State() < StateClosing || m.s.farewell.code != wire.CloseLimit {
		t.Errorf("server is %v, %v", m.s.State(), m.s.farewell.code)
	}
}

// The first datagram of an old epoch makes a rekey due at once. It is no clock that
// jumped.
func TestRekeyAfterPause(t *testing.T) {
	m := opened(t, 1)
	m.c.options.keepalive = 25 * time.Second
	m.talk(2 * time.Second)
	m.c.Rekey(m.now, &m.c.out)
	m.flush(&m.c)
	m.run(2 * rekeyAfter)
	if got := m.c.Info().Epoch; got != 1 {
		t.Fatalf("epoch %d", got)
	}
	m.c.events = nil
	m.clientSend("up")
	m.run(time.Second)
	if got := m.c.Info().Epoch; got != 2 {
		t.Errorf("epoch %d after a datagram", got)
	}
	m.c.wants(t, "the first datagram after a pause", EventClockJump, 0)
}
