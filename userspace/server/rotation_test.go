// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Clients that know the server by its key of before are served like the others.
func TestPreviousKey(t *testing.T) {
	previous := handshake.NewPrivateKey()
	testPreviousKey(t, previous, listen(t, func(c *Config) { c.Previous = []handshake.PrivateKey{previous} }))
}

func testPreviousKey(t *testing.T, previous handshake.PrivateKey, srv *Server) {
	old := dial(t, srv, "127.0.0.1", func(c *handshake.ClientConfig) { c.Server = previous.Public() })
	talk(t, accept(t, srv), old, "by the old key")
	if n := srv.Stats().PreviousKey; n != 1 {
		t.Errorf("%d handshakes by the old key", n)
	}
	young := dial(t, srv, "127.0.0.1", nil)
	talk(t, accept(t, srv), young, "by the new key")
	if n := srv.Stats().PreviousKey; n != 1 {
		t.Errorf("then %d handshakes by the old key", n)
	}
	stranger, _ := newAttempt(t, srv, func(c *handshake.ClientConfig) { c.Server = handshake.NewPrivateKey().Public() })
	s := newSocket(t, "127.0.0.1", srv)
	s.send(stranger.Packet())
	s.silence("an INIT by a key of nobody")
}

// keeper is a state directory in memory.
type keeper struct {
	state handshake.State
	err   error
	saved int
}

func (k *keeper) save(was, now handshake.State) error {
	if k.err != nil {
		return k.err
	}
	if was != k.state {
		return errors.New("this is not what was kept")
	}
	k.state = now
	k.saved++
	return nil
}

// rotating starts a server with a state that a keeper keeps, by start or listen.
func rotating(t *testing.T, start func(change func(*Config)) *Server) (*Server, *keeper) {
	t.Helper()
	k := &keeper{state: handshake.NewState(handshake.NewStateSecret())}
	change := func(c *Config) { c.State, c.SaveState, c.Cookie = k.state, k.save, CookieAlways }
	if start == nil {
		return listen(t, change), k
	}
	return start(change), k
}

func rotate(t *testing.T, srv *Server, want uint8) {
	t.Helper()
	if g, err := srv.RotateState(); err != nil || g != want {
		t.Fatalf("rotation to generation %d: %d, %v", want, g, err)
	}
}

// Sessions live through rotations of the state secret; generations that no live
// id carries go, first from memory and from the data plane, and their number
// comes again.
func TestRotateState(t *testing.T) {
	srv, k := rotating(t, nil)
	testRotateState(t, srv, k)
}

func testRotateState(t *testing.T, srv *Server, k *keeper) {
	c := dial(t, srv, "127.0.0.1", nil)
	s := accept(t, srv)
	talk(t, s, c, "before")
	first := s.Info().LocalID
	old := goneID(t, srv)

	// A cookie from before the rotation is good after it.
	init, _ := newAttempt(t, srv, nil)
	sock := newSocket(t, "127.0.0.1", srv)
	sock.send(init.Packet())
	_, cookie, err := wire.ParseRetry(sock.read(patience))
	if err != nil {
		t.Fatal(err)
	}
	rotate(t, srv, 1)
	init.SetCookie(cookie)
	if _, retries := exchange(t, sock, init); retries != 0 {
		t.Error("the rotation made a client's cookie void")
	}

	talk(t, s, c, "after a rotation")
	if _, tag := srv.table.Find(first); tag != maps.TagLive {
		t.Errorf("a live id of generation 0 is %v", tag)
	}
	if got := maps.Generation(goneID(t, srv)); got != 1 || k.state.Newest() != 1 || k.saved != 1 {
		t.Errorf("new ids carry %d, %v was kept", got, k.state)
	}
	reset := func(id wire.ID, want handshake.State) {
		t.Helper()
		at := newSocket(t, "127.0.0.1", srv)
		at.send(dataOn(id, 100))
		token := handshake.ResetToken(want.ResetKey(maps.Generation(id)), id)
		if pkt := at.read(patience); !bytes.HasSuffix(pkt, token[:]) {
			t.Errorf("reset of an id of generation %d: %x", maps.Generation(id), pkt)
		}
	}
	reset(old, k.state)
	reset(goneID(t, srv), k.state)

	// A further client has ids of the new generation alone.
	fresh := dial(t, srv, "127.0.0.1", nil)
	talk(t, accept(t, srv), fresh, "new")

	rotate(t, srv, 2)
	rotate(t, srv, 3)
	if g, err := srv.RotateState(); !errors.Is(err, handshake.ErrGenerations) || g != 3 || k.saved != 3 {
		t.Fatalf("a fifth generation beside the live ids of the first: %d, %v", g, err)
	}

	// Generation 2 issued nothing: it goes, but not before its time.
	now := srv.clock.now()
	srv.retireGenerations(now)
	srv.retireGenerations(now + generationIdle - 2*time.Second)
	if !k.state.Holds(2) {
		t.Error("a generation went before its time")
	}
	srv.retireGenerations(now + generationIdle)
	if k.state.Holds(2) || !k.state.Holds(0) || !k.state.Holds(1) || !k.state.Holds(3) {
		t.Errorf("kept: %v", k.state)
	}
	// The first one goes with its ids.
	s.Close(wire.CloseDone, "")
	eventually(t, "no live id carries generation 0", func() bool { return srv.table.LiveOf(0) == 0 })
	talk2 := newSocket(t, "127.0.0.1", srv)
	talk2.send(dataOn(first, 100))
	if talk2.read(patience) == nil {
		t.Error("an id of a generation that is still kept is not reset")
	}
	rotate(t, srv, 0)
	before := srv.Stats().Packets[ResetSent]
	talk2.send(dataOn(first, 100))
	talk2.silence("an id of a secret that is gone")
	if srv.Stats().Packets[ResetSent] != before {
		t.Error("it was reset")
	}
	if _, tag := srv.table.Find(first); tag != maps.TagForged {
		t.Errorf("it is %v", tag)
	}
}

// What cannot be kept is not used: after a restart nobody would know those ids.
func TestRotationThatIsNotKept(t *testing.T) {
	srv, k := rotating(t, nil)
	k.err = errors.New("disk full")
	if g, err := srv.RotateState(); !errors.Is(err, k.err) || g != 0 {
		t.Errorf("rotation: %d, %v", g, err)
	}
	if got := maps.Generation(goneID(t, srv)); got != 0 {
		t.Errorf("new ids carry generation %d", got)
	}
}

// A server that starts with several generations serves and resets all of them.
func TestGenerationsAfterRestart(t *testing.T) {
	first, k := rotating(t, nil)
	old := goneID(t, first)
	rotate(t, first, 1)
	young := goneID(t, first)
	second := listen(t, func(c *Config) { c.State = k.state })
	for _, id := range []wire.ID{old, young} {
		at := newSocket(t, "127.0.0.1", second)
		at.send(dataOn(id, 100))
		token := first.keys.resetToken(id)
		if pkt := at.read(patience); !bytes.HasSuffix(pkt, token[:]) {
			t.Errorf("generation %d after a restart: %x", maps.Generation(id), pkt)
		}
	}
	if got := maps.Generation(goneID(t, second)); got != 1 {
		t.Errorf("new ids carry generation %d", got)
	}
}
