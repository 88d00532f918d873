// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Access is the answer of Config.Authorize about a client that asks for a service.
type Access struct {
	// Allowed lets the client in.
	Allowed bool
	// Reason says why not, in words for the client's user. Empty: that the key is not
	// authorised, which is all that a stranger should learn.
	Reason string
	// Name is the client's in logs and lists.
	Name string
	// PSK is the secret shared with this client alone; zero: Config.PSK. It goes with
	// a refusal too, so it must not depend on the service.
	PSK handshake.PSK
	// Sessions bounds the client's sessions at a time; 0: Limits.KeySessions.
	Sessions int
}

// refusal is why a client is not let in: what it is told, and what the operator
// can do about it, for the log.
type refusal struct {
	status wire.Status
	code   wire.CloseCode
	text   string
	fix    string
}

// tellRefusal tells the operator, though not of each in a flood.
func (srv *Server) tellRefusal(no *refusal, remote netip.AddrPort, name string, key handshake.PublicKey, service uint16) {
	if !srv.refusals.take(srv.clock.now()) {
		return
	}
	srv.tell(Event{Name: "session_refused", Path: remote, PeerKey: key, PeerName: name, Service: service,
		Reason: no.status.String() + ": " + no.text})
	srv.cfg.Log.Info("session_refused", "remote", remote, "peer", name, "peer_key", key, "service", service,
		"status", no.status.String(), "reason", no.text, "fix", no.fix)
}

// admit decides whether the client gets a session.
func (h *handshaker) admit(req *handshake.Request, job *initJob) (Access, *refusal) {
	srv := h.srv
	access := srv.cfg.Authorize(req.Client, req.Service)
	if !access.Allowed {
		return access, notAuthorised(access)
	}
	if !srv.cfg.HasService(req.Service) {
		return access, &refusal{wire.StatusNoService, wire.CloseServiceGone, fmt.Sprintf("no service on port %d", req.Service),
			"add a service with that port, or have the client ask for one of those configured"}
	}
	if srv.draining.Load() {
		return access, &refusal{wire.StatusBusy, wire.CloseShuttingDown, drainReason, "none needed: it comes back"}
	}
	if text := srv.caps.room(req.Client, makePrefix(job.remote.Addr(), sessionPrefixBits), access.Sessions); text != "" {
		return access, overLimit(text)
	}
	return access, nil
}

func notAuthorised(a Access) *refusal {
	return &refusal{wire.StatusNotAuthorised, wire.CloseNotAuthorised, cmp.Or(a.Reason, "this key is not authorised here"),
		"if it is to be let in, add its key and the service to those authorised"}
}

func overLimit(text string) *refusal {
	return &refusal{wire.StatusBusy, wire.CloseLimit, text, "raise the limit, or find out why the client does not end its sessions"}
}

// stillAllowed asks once more when a session is confirmed: a list that changed
// since its handshake must not let it slip in between.
func (s *Session) stillAllowed() (Access, *refusal) {
	access := s.srv.cfg.Authorize(s.key, s.service)
	if !access.Allowed {
		return access, notAuthorised(access)
	}
	return access, nil
}

// Revoke ends every session that revoked gives a reason for, with
// wire.CloseNotAuthorised and that reason, and returns how many. Who changes what
// Config.Authorize says calls it afterwards: sessions that it does not name go on.
// revoked may be called from several goroutines and must not call the server.
func (srv *Server) Revoke(revoked func(key handshake.PublicKey, service uint16) (reason string)) int {
	told := 0
	srv.closeSessions(wire.CloseNotAuthorised, func(s *Session) (string, bool) {
		reason := revoked(s.key, s.service)
		if reason != "" && s.state.State() == session.StateOpen {
			told++
		}
		return reason, reason != ""
	})
	return told
}
