// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/session"
)

// listenerIndex names our socket group to the data plane; entries of
// maps.Listeners with this index lead to this server.
const listenerIndex = 0

// prepareDataPlane tells the data plane all that it needs to judge packets as
// the server would, before a socket is there for it to steer to.
func (srv *Server) prepareDataPlane() (*maps.Sessions, error) {
	set := srv.cfg.Maps
	policy, known := map[CookiePolicy]maps.CookiePolicy{
		CookieAuto: maps.CookieAuto, CookieAlways: maps.CookieAlways, CookieNever: maps.CookieNever,
	}[srv.cfg.Cookie]
	if !known {
		return nil, fmt.Errorf("%w: no such cookie policy in the data plane: %v", ErrConfig, srv.cfg.Cookie)
	}
	if err := set.Identify(srv.cfg.ServerID, srv.cfg.State.IDKey); err != nil {
		return nil, fmt.Errorf("give the data plane its id keys: %w", err)
	}
	// The sessions of the process before us went with its memory: what is in
	// the table leads nowhere, and its clients must learn that.
	stale, err := set.Sessions.FreeStale(maps.KindROAM)
	if err != nil {
		return nil, fmt.Errorf("free stale sessions: %w", err)
	}
	if stale > 0 {
		srv.cfg.Log.Info("freed the ids of the process before", "ids", stale)
	}
	if err := set.Config.SetUnixBase(srv.clock.base); err != nil {
		return nil, err
	}
	if err := set.Config.SetMAC1Keys(srv.mac1Keys()...); err != nil {
		return nil, err
	}
	limits := set.Config.Read().Limits
	limits.Uncookied = maps.Rate{PerSecond: uint32(srv.cfg.Limits.UncookiedRate), Burst: uint32(srv.cfg.Limits.UncookiedRate)}
	if err := set.Config.SetLimits(limits); err != nil {
		return nil, err
	}
	srv.keys.mu.Lock()
	err = srv.shareCookieKeys(srv.clock.now())
	srv.keys.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := set.Config.SetCookiePolicy(policy); err != nil {
		return nil, err
	}
	return set.Sessions, nil
}

// registerSockets lets the data plane choose among the sockets.
func (srv *Server) registerSockets() error {
	set := srv.cfg.Maps
	for i, r := range srv.readers {
		raw, err := r.conn.SyscallConn()
		if err != nil {
			return err
		}
		if err := set.Sockets.Register(listenerIndex, r.worker.index, r.lane, raw); err != nil {
			return err
		}
		if i == 0 {
			if err := set.Sockets.Attach(raw); err != nil {
				return err
			}
		}
	}
	// After the program, which alone keeps packets from this deaf socket.
	raw, err := srv.readers[0].conn.SyscallConn()
	if err != nil {
		return err
	}
	srv.sink, err = set.Sockets.Sink(listenerIndex, raw)
	return err
}

func (srv *Server) closeSink() error {
	if srv.sink == nil {
		return nil
	}
	return errors.Join(srv.cfg.Maps.Sockets.Unregister(listenerIndex, 0, maps.LaneSink), srv.sink.Close())
}

func (srv *Server) unregister(r *reader) error {
	return srv.cfg.Maps.Sockets.Unregister(listenerIndex, r.worker.index, r.lane)
}

// shareCookieKeys gives the data plane the keys of the epochs around now: it
// needs the next one before that begins. The caller holds the keyring's lock.
func (srv *Server) shareCookieKeys(now session.Time) error {
	epoch := srv.clock.unix(now) / handshake.CookieEpoch
	for e := epoch - 1; e <= epoch+1; e++ {
		if err := srv.cfg.Maps.Config.SetCookieKey(e, srv.cookies.Key(uint64(e))); err != nil {
			return fmt.Errorf("give the data plane its cookie keys: %w", err)
		}
	}
	srv.keys.cookieEpoch = epoch
	return nil
}

// rotateCookies shares the keys again when an epoch has begun. (Without a data
// plane there is no one to share them with; handshake.Cookies derives them by itself.)
func (srv *Server) rotateCookies(now session.Time) {
	srv.keys.mu.Lock()
	defer srv.keys.mu.Unlock()
	if srv.cfg.Maps == nil || srv.clock.unix(now)/handshake.CookieEpoch == srv.keys.cookieEpoch {
		return
	}
	if err := srv.shareCookieKeys(now); err != nil {
		srv.cfg.Log.Error("cookie keys were not rotated: the data plane will demand cookies that nobody can give", "error", err)
	}
}
