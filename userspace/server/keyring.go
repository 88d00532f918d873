// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// generationIdle is for how long a generation that no live id carries is kept:
// clients of sessions that a crash ended are told by its reset key.
const generationIdle = 10 * time.Minute

// keyring is the state secrets in use and what is derived from them.
type keyring struct {
	now atomic.Pointer[stateKeys]

	mu sync.Mutex // serialises changes, and guards the rest
	// idleSince is when a live id last carried the generation.
	idleSince [handshake.Generations]session.Time
	// cookieEpoch is the epoch whose keys the data plane has.
	cookieEpoch uint32
}

type stateKeys struct {
	state  handshake.State
	reset  [handshake.Generations][32]byte
	tokens [handshake.Generations]*handshake.ResetTokens // of those keys
}

func (k *keyring) set(s handshake.State) {
	keys := &stateKeys{state: s}
	for g := range keys.reset {
		keys.reset[g] = s.ResetKey(uint8(g))
		keys.tokens[g] = handshake.NewResetTokens(keys.reset[g])
	}
	k.now.Store(keys)
}

// resetKey returns the key of the reset token of an id of ours.
func (k *keyring) resetKey(id wire.ID) [32]byte {
	return k.now.Load().reset[maps.Generation(id)]
}

// resetToken returns what an id's stateless reset ends with.
func (k *keyring) resetToken(id wire.ID) wire.Token {
	return k.now.Load().tokens[maps.Generation(id)].Token(id)
}

// RotateState makes the next generation of the state secret: new ids and cookies
// are made with it. Sessions go on; the generations before stay until no id
// carries them. It fails with handshake.ErrGenerations while live ids carry all
// four, and with what Config.SaveState says; nothing has changed then.
func (srv *Server) RotateState() (generation uint8, err error) {
	k := &srv.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.now.Load().state
	now, err := was.Next()
	if errors.Is(err, handshake.ErrGenerations) {
		// The oldest one is that whose number is next.
		oldest := (was.Newest() + 1) % handshake.Generations
		if n := srv.table.LiveOf(oldest); n > 0 {
			return was.Newest(), fmt.Errorf("%w: %d live ids carry generation %d; wait until their sessions have moved or ended", err, n, oldest)
		}
		now, err = was.Without(oldest).Next()
	}
	if err != nil {
		return was.Newest(), err
	}
	if err := srv.adoptState(was, now); err != nil {
		return was.Newest(), err
	}
	if err := srv.table.SetGeneration(now.Newest()); err != nil {
		return was.Newest(), err
	}
	// From the next epoch on, so that a cookie that a client holds stays good.
	t := srv.clock.now()
	srv.cookies.Rotate(now.CookieSecret(), uint64(srv.clock.unix(t)/handshake.CookieEpoch+1))
	if srv.cfg.Maps != nil {
		if err := srv.shareCookieKeys(t); err != nil {
			return now.Newest(), err
		}
	}
	srv.tell(Event{Name: "state_rotated", Reason: fmt.Sprintf("generation %d is the newest", now.Newest())})
	srv.cfg.Log.Info("state_rotated", "generation", now.Newest())
	return now.Newest(), nil
}

// adoptState keeps the state and tells the data plane its id keys. The caller
// holds the keyring's lock.
func (srv *Server) adoptState(was, now handshake.State) error {
	if err := srv.cfg.SaveState(was, now); err != nil {
		return err
	}
	srv.keys.set(now)
	if srv.cfg.Maps != nil {
		return srv.cfg.Maps.Identify(srv.cfg.ServerID, now.IDKey)
	}
	return srv.table.Identify(srv.cfg.ServerID, now.IDKey)
}

// retireGenerations drops the generations that no live id has carried for a
// while: their ids are forged from then on.
func (srv *Server) retireGenerations(t session.Time) {
	k := &srv.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.now.Load().state
	now := was
	var retired []uint8
	for g := range uint8(handshake.Generations) {
		if !was.Holds(g) || g == was.Newest() || srv.table.LiveOf(g) > 0 {
			k.idleSince[g] = t
		} else if t-k.idleSince[g] >= generationIdle {
			now = now.Without(g)
			retired = append(retired, g)
		}
	}
	if now == was {
		return
	}
	if err := srv.adoptState(was, now); err != nil {
		srv.cfg.Log.Error("a generation of the state secret was not retired", "error", err)
		for g := range k.idleSince {
			k.idleSince[g] = t // in a while again
		}
		return
	}
	srv.tell(Event{Name: "state_retired", Reason: "generations " + strings.Trim(fmt.Sprint(retired), "[]")})
	srv.cfg.Log.Info("state_retired", "generations", fmt.Sprint(retired))
}

// Generation is one state secret in use.
type Generation struct {
	Number uint8
	Newest bool   // new ids carry it
	IDs    uint32 // live ids that carry it
}

// Generations lists the state secrets in use by their numbers.
func (srv *Server) Generations() (list []Generation) {
	state := srv.keys.now.Load().state
	for g := range uint8(handshake.Generations) {
		if state.Holds(g) {
			list = append(list, Generation{g, g == state.Newest(), srv.table.LiveOf(g)})
		}
	}
	return list
}
