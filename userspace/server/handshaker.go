// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// handshaker opens INITs that the readers let through and answers them.
type handshaker struct {
	srv    *Server
	counts *counters
	work   work
}

func (h *handshaker) run() {
	for {
		select {
		case <-h.srv.ctx.Done():
			return
		case job := <-h.srv.jobs:
			h.work.begin(h.srv.clock.now())
			h.counts.packets[h.handle(job)].Add(1)
			h.work.end()
			*job = initJob{packet: job.packet}
			initJobs.Put(job)
		}
	}
}

func (h *handshaker) handle(job *initJob) Reason {
	reason := h.answer(job)
	if reason != RespAccepted && reason != RespRefused {
		// The bucket of its source has been charged and that is all: a garbled
		// copy must not stand in the way of the INIT that it was made from.
		h.srv.attempts.forget(job.attempt)
	}
	return reason
}

func (h *handshaker) answer(job *initJob) Reason {
	srv := h.srv
	req, err := job.identity.responder.Open(job.packet[:])
	if err != nil {
		return InitNotOpened
	}
	if job.identity.previous {
		srv.totals.previousKey.Add(1)
	}
	access, no := h.admit(req, job)
	if err := req.SetPSK(access.PSK); err != nil {
		srv.cfg.Log.Error("handshake failed", "remote", job.remote, "error", err)
		return HandshakeFailed
	}
	var s *Session
	var resp []byte
	if no == nil {
		s, resp, err = h.accept(req, job, access.Name)
		if errors.Is(err, maps.ErrFull) {
			srv.totals.tableFull.Add(1)
			no = &refusal{wire.StatusFull, wire.CloseLimit, "the server's session table is full", err.Error()}
		} else if err != nil {
			srv.cfg.Log.Error("handshake failed", "remote", job.remote, "error", err)
			return HandshakeFailed
		} else if srv.cfg.Authorize(req.Client, req.Service).PSK != access.PSK {
			// It has changed since, and Revoke may have looked before there was this
			// session to end. The client tries again.
			s.discard(h.counts)
			return HandshakeBusy
		}
	}
	if no != nil {
		if resp, err = req.Refuse(no.status, no.code, no.text); err != nil {
			srv.cfg.Log.Error("refusal failed", "remote", job.remote, "error", err)
			return HandshakeFailed
		}
		srv.totals.refused[no.status].Add(1)
		srv.tellRefusal(no, job.remote, access.Name, req.Client, req.Service)
	}
	if !srv.attempts.answered(job.attempt, resp, s) {
		// It waited here for longer than it may be half-open.
		if s != nil {
			s.discard(h.counts)
		}
		return HandshakeBusy
	}
	if _, err := job.conn.WriteBatch([]netio.Message{{Buf: resp, Remote: job.remote, Local: job.local}}); err != nil {
		h.counts.sendRefused.Add(1)
	}
	if no != nil {
		return RespRefused
	}
	return RespAccepted
}

// accept makes the session, half-open, and the RESP that tells the client.
func (h *handshaker) accept(req *handshake.Request, job *initJob, name string) (*Session, []byte, error) {
	srv := h.srv
	s, first, err := srv.newSession(h.owner(job), req.Client, name, req.Service)
	if err != nil {
		return nil, nil, err
	}
	s.attempt, s.told = job.attempt, srv.addrs.Load()
	resp, secrets, err := req.Accept(handshake.Acceptance{
		Params:   srv.cfg.Params,
		NewID:    handshake.NewID{ID: first.ID, Reset: first.Reset},
		Observed: job.remote,
		Addrs:    *s.told,
	})
	if err != nil {
		s.abandon()
		return nil, nil, err
	}
	cfg := session.Config{
		C2S: secrets.C2S, S2C: secrets.S2C,
		Local:           []session.LocalID{first},
		Path:            session.Path{Remote: job.remote, Local: job.local},
		IdleTimeout:     idleTimeout(srv.cfg.Params.IdleTimeout, req.Params.IdleTimeout),
		MaxDatagram:     srv.cfg.Params.MaxDatagram,
		PeerMaxDatagram: req.Params.MaxDatagram,
	}
	for _, n := range req.NewIDs {
		cfg.Remote = append(cfg.Remote, session.RemoteID{Seq: n.Seq, ID: n.ID, Reset: n.Reset})
	}
	if err = s.start(cfg); err != nil {
		s.abandon()
		return nil, nil, err
	}
	return s, resp, nil
}

// owner picks the worker of a new session. Without a data plane the kernel's
// hash brings its packets to the socket that its INIT came to.
func (h *handshaker) owner(job *initJob) *worker {
	if h.srv.cfg.Maps == nil {
		return job.worker
	}
	return h.srv.workers[int(h.srv.nextOwner.Add(1))%len(h.srv.workers)]
}

// idleTimeout is the smaller of both sides'; the client's may be missing.
func idleTimeout(ours, theirs time.Duration) time.Duration {
	if theirs > 0 {
		return min(ours, theirs)
	}
	return ours
}

// totals counts what is not the fate of a packet.
type totals struct {
	refused                                          [wire.StatusFull + 1]atomic.Uint64 // handshakes, by status
	expired, tableFull                               atomic.Uint64
	opened, closed                                   atomic.Uint64
	movesStarted, movesCommitted, movesRefused       atomic.Uint64
	movesReverted, forwardingAlarms, acceptQueueFull atomic.Uint64
	previousKey, orphans, takeovers, policed         atomic.Uint64
	switches                                         histogram
}
