// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// newDataPlane loads the programs over maps of their own. No interface is
// touched: roam_socket alone sees the loopback traffic of the sockets under test.
func newDataPlane(t *testing.T) *maps.Set {
	t.Helper()
	testutil.RequirePrivileged(t)
	set, err := maps.Create(4096)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	programs, err := set.LoadPrograms(ebpf.ProgramOptions{})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	programs.XDP.Close()
	return set
}

func steered(t *testing.T, set *maps.Set, cookie CookiePolicy) *Server {
	t.Helper()
	return steeredBy(t, set, func(c *Config) { c.Cookie = cookie })
}

func steeredBy(t *testing.T, set *maps.Set, change func(*Config)) *Server {
	t.Helper()
	srv := listen(t, func(c *Config) {
		c.Maps = set
		change(c)
	})
	if err := set.Listeners.Add(maps.Listener{Addr: netip.AddrPortFrom(netip.IPv6Unspecified(), srv.Addr().Port()), Index: listenerIndex}); err != nil {
		t.Fatal(err)
	}
	return srv
}

// TestSteering runs sessions behind roam_socket and looks at the lanes by
// which their packets came.
func TestSteering(t *testing.T) {
	set := newDataPlane(t)
	srv := steered(t, set, CookieAlways)
	at := func(s maps.Snapshot, r maps.Reason) uint64 { return s.Packets[maps.StageSocket][r] }

	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")
	start := set.Counters.Read()
	// The socket stage cannot answer by itself: it hands the INIT to us, and the
	// cookie that we made is good to it. So keys, clock and formula agree.
	if at(start, maps.ReasonInitSlow) != 1 || at(start, maps.ReasonInitCookie) != 1 {
		t.Errorf("INITs by reason: %+v", start.Counts())
	}
	for range 20 {
		talk(t, s, c, "settled")
	}
	now := set.Counters.Read()
	settled := now.Sub(start)
	if at(settled, maps.ReasonMain) < 20 || at(settled, maps.ReasonCandidate) != 0 {
		t.Errorf("settled: %+v", settled.Counts())
	}

	i := c.addSocket("127.0.0.2", srv)
	c.move(i)
	talk(t, s, c, "moved")
	wantPath(t, srv, s, c, i)
	moved := set.Counters.Read()
	if d := moved.Sub(now); at(d, maps.ReasonCandidate) == 0 {
		t.Errorf("a new address is a candidate's: %+v", d.Counts())
	}
	for range 20 {
		talk(t, s, c, "settled again")
	}
	if d := set.Counters.Read().Sub(moved); at(d, maps.ReasonMain) < 20 || at(d, maps.ReasonCandidate) > 2 {
		t.Errorf("after the commit: %+v", d.Counts())
	}

	// Forged ids and INITs do not reach the server.
	attacker := newSocket(t, "127.0.0.1", srv)
	pkt := make([]byte, 100)
	wire.PutDataHeader(pkt, 1, wire.ID{1})
	attacker.send(pkt)
	init, _ := newAttempt(t, srv, func(c *handshake.ClientConfig) { c.Server = handshake.NewPrivateKey().Public() })
	attacker.send(init.Packet())
	attacker.silence("forgeries")
	// Not even by ICMP, of which a connected socket would learn.
	connected, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(attacker.to))
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()
	for range 2 {
		if _, err := connected.Write(pkt); err != nil {
			t.Errorf("a forged packet was answered by ICMP: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}

	st := srv.Stats()
	if d := set.Counters.Read(); at(d, maps.ReasonIDForged) != 3 || at(d, maps.ReasonMAC1) != 1 || st.Packets[IDForged]+st.Packets[MAC1] != 0 {
		t.Errorf("forgeries: %+v; the server saw %d and %d", d.Counts(), st.Packets[IDForged], st.Packets[MAC1])
	}
}

// TestOwners spreads sessions over the workers, and their slots say so.
func TestOwners(t *testing.T) {
	set := newDataPlane(t)
	srv := steered(t, set, CookieAuto)
	owners := map[int]int{}
	for range 4 {
		c := dial(t, srv, "::1", nil)
		s := accept(t, srv)
		talk(t, s, c, "x")
		info := s.Info()
		owners[info.Owner]++
		if slot, err := set.Sessions.Get(info.LocalID); err != nil || int(slot.Owner) != info.Owner {
			t.Errorf("slot %+v, %v; the owner is %d", slot, err, info.Owner)
		}
	}
	if len(owners) != 2 {
		t.Errorf("sessions by worker: %v", owners)
	}
}

// TestStaleSlots takes over the maps of a process that crashed.
func TestStaleSlots(t *testing.T) {
	set := newDataPlane(t)
	if err := set.Identify(0, handshake.NewState(handshake.StateSecret{1}).IDKey); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, _, err := set.Sessions.Allocate(maps.KindROAM, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := set.Sessions.Allocate(maps.KindQUIC, 0); err != nil {
		t.Fatal(err)
	}
	srv, err := Listen(Config{Static: handshake.NewPrivateKey(), Listen: netip.MustParseAddrPort("[::1]:0"), Maps: set, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	if n := set.Sessions.Len(); n != 1 {
		t.Errorf("%d slots are taken; the one that is not ours should be left", n)
	}
	list, err := set.Sockets.List()
	if err != nil || len(list) != 4 {
		t.Errorf("sockets %+v, %v; want main, candidate, handshake and sink", list, err)
	}
	srv.Close()
	if list, _ := set.Sockets.List(); len(list) != 0 {
		t.Errorf("a closed server left %+v", list)
	}
}

// TestCookieKeysShared moves the clock to the next epoch: the data plane gets its key.
func TestCookieKeysShared(t *testing.T) {
	set := newDataPlane(t)
	srv := steered(t, set, CookieAuto)
	epoch := srv.clock.unix(srv.clock.now()) / handshake.CookieEpoch
	for _, e := range []uint32{epoch - 1, epoch, epoch + 1} {
		found := false
		for _, have := range set.Config.Read().CookieEpochs {
			found = found || have == e
		}
		if !found {
			t.Errorf("epoch %d has no key: %v", e, set.Config.Read().CookieEpochs)
		}
	}
	// The janitor is waited out of the way, for this test does its work.
	srv.Close()
	srv.rotateCookies(srv.clock.now() + handshake.CookieEpoch*1e9)
	if got := set.Config.Read().CookieEpochs; got[(epoch+2)%4] != epoch+2 {
		t.Errorf("after a minute: %v lacks epoch %d", got, epoch+2)
	}
}

// The data plane takes INITs for either key, and ids of every generation.
func TestRotationSteered(t *testing.T) {
	set := newDataPlane(t)
	previous := handshake.NewPrivateKey()
	testPreviousKey(t, previous, steeredBy(t, set, func(c *Config) { c.Previous = []handshake.PrivateKey{previous} }))
	if n := set.Config.Read().MAC1Keys; n != 2 {
		t.Errorf("the data plane has %d mac1 keys", n)
	}

	set = newDataPlane(t)
	srv, k := rotating(t, func(change func(*Config)) *Server { return steeredBy(t, set, change) })
	testRotateState(t, srv, k)
	if got := set.Config.Read().IDKeys; len(got) != 3 { // all but generation 2, which went
		t.Errorf("generations with a key in the data plane: %v", got)
	}
	counts := set.Counters.Read()
	if counts.Packets[maps.StageSocket][maps.ReasonReset] == 0 || counts.Packets[maps.StageSocket][maps.ReasonIDForged] == 0 {
		t.Errorf("the reset lane, or the drop of a retired generation: %+v", counts.Counts())
	}
}

// THREATS: a sniffed id and a flood from the session's own, forged, address. The
// id's slot is policed, so the flood ends in the data plane; others do not notice.
func TestThreatSpoofFlood(t *testing.T) {
	set := newDataPlane(t)
	srv := steered(t, set, CookieAuto)
	victim := dial(t, srv, "127.0.0.1", nil)
	v := accept(t, srv)
	talk(t, v, victim, "before")
	bystander := dial(t, srv, "127.0.0.1", nil)
	b := accept(t, srv)
	talk(t, b, bystander, "before")

	forged := dataOn(v.Info().LocalID, 132)
	flood := make([]netio.Message, 32)
	for i := range flood { // none shorter than the one before it, or they would be one train
		flood[i] = netio.Message{Buf: forged[:100+i], Remote: victim.sockets[0].to}
	}
	limited := func() uint64 {
		return set.Counters.Read().Packets[maps.StageSocket][maps.ReasonMainLimit]
	}
	deadline := time.Now().Add(patience)
	for limited() == 0 && time.Now().Before(deadline) {
		if _, err := victim.sockets[0].conn.WriteBatch(flood); err != nil {
			t.Fatal(err)
		}
	}
	if limited() == 0 || srv.Stats().Policed != 1 {
		t.Fatalf("%d packets limited, %d ids policed", limited(), srv.Stats().Policed)
	}
	if slot, err := set.Sessions.Get(b.Info().LocalID); err != nil || slot.Flags != 0 {
		t.Errorf("the bystander's slot: %+v, %v", slot, err)
	}
	// The victim goes on under another id.
	old := wire.ID(forged[8:24])
	eventually(t, "the victim has a new id", func() bool { return v.Info().LocalID != old })
	talk(t, v, victim, "on the new id")
	if slot, err := set.Sessions.Get(v.Info().LocalID); err != nil || slot.Flags != 0 {
		t.Errorf("the victim's new slot: %+v, %v", slot, err)
	}

	// The flood goes on, and nobody notices.
	median := func() time.Duration {
		took := make([]time.Duration, 300)
		for i := range took {
			start := time.Now()
			talk(t, b, bystander, "x")
			took[i] = time.Since(start)
		}
		slices.Sort(took)
		return took[len(took)/2]
	}
	quiet := median()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for tick := time.NewTicker(time.Millisecond); ctx.Err() == nil; <-tick.C {
			_, _ = victim.sockets[0].conn.WriteBatch(slices.Clone(flood))
		}
	})
	before := limited()
	eventually(t, "the flood has used up what the bucket had gathered", func() bool { return limited() > before })
	flooded := median()
	talk(t, v, victim, "in the flood")
	stop()
	wg.Wait()
	t.Logf("a bystander's median: %v quiet, %v in a flood of %d packets that were dropped", quiet, flooded, limited()-before)
	const noise = 50 * time.Millisecond // of a machine with other work to do, which has more to say in the slowest of them
	if flooded > 2*quiet+noise {
		t.Errorf("a bystander's median: %v quiet, %v in the flood", quiet, flooded)
	}
	if n := srv.Stats().Policed; n != 1 {
		t.Errorf("%d ids policed: the flood was on one", n)
	}
}
