// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net"
	"time"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// batchSize is how many packets a reader takes at a time: enough to share the
// cost of the system calls, few enough to stay in the cache.
const batchSize = 64

// worker owns sessions: their timers are in its wheel, the data plane brings
// their packets to its sockets.
type worker struct {
	srv    *Server
	index  uint16
	wheel  *wheel
	conn   netio.Conn // its main socket, to send from
	counts *counters  // of what its sessions do unasked
}

// keepTime ticks the worker's sessions when their deadlines come.
func (w *worker) keepTime() {
	srv := w.srv
	snd := sender{srv: srv, conn: w.conn}
	var due []*Session
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-srv.ended.Done():
			return
		case <-w.wheel.wake:
		case <-t.C:
		}
		now := srv.clock.now()
		due = w.wheel.expire(now, due[:0])
		for _, s := range due {
			s.mu.Lock()
			s.armedFor = 0
			if at, ok := s.state.Deadline(); ok && at <= now {
				s.state.Tick(now, &snd.out)
			}
			s.settle(now, &snd.out, w.counts)
			s.mu.Unlock()
			if len(snd.out.Packets) >= batchSize {
				snd.flush(w.counts)
			}
		}
		clear(due)
		snd.flush(w.counts)
		t.Reset(w.wheel.sleep() - srv.clock.now())
	}
}

// reader is one socket's, or queue's, goroutine. All readers run the same code: which lane
// a packet came by changes nothing but who is held up by it.
type reader struct {
	worker *worker
	srv    *Server
	lane   maps.Lane
	conn   netio.Conn // its socket; of a Queue's reader that of its worker, to send from
	source interface {
		ReadBatch([]netio.Message) (int, error)
	}
	counts *counters

	in       []netio.Message
	sessions [batchSize]*Session // of the packet at the same place of in
	snd      sender
	// answers holds the RETRY, VERSIONS and resets of a batch.
	answers []byte
}

// maxAnswer is the length of the longest of them.
const maxAnswer = max(wire.RetryLen, handshake.MaxReset)

func newReader(w *worker, lane maps.Lane, conn netio.Conn, c *counters) *reader {
	r := &reader{
		worker: w, srv: w.srv, lane: lane, conn: conn, source: conn, counts: c,
		in: make([]netio.Message, batchSize), snd: sender{srv: w.srv, conn: conn},
		answers: make([]byte, 0, batchSize*maxAnswer),
	}
	memory := make([]byte, batchSize*wire.MaxPacket)
	for i := range r.in {
		r.in[i].Buf = memory[i*wire.MaxPacket : (i+1)*wire.MaxPacket : (i+1)*wire.MaxPacket]
	}
	return r
}

// run reads until the socket is closed.
func (r *reader) run() {
	for {
		n, err := r.source.ReadBatch(r.in)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			r.srv.cfg.Log.Error("a socket fails to read", "lane", r.lane.String(), "worker", r.worker.index, "error", err)
			select { // whatever it is, do not spin on it
			case <-r.srv.ended.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		r.batch(r.srv.clock.now(), r.in[:n])
	}
}

// batch works off what one read brought.
func (r *reader) batch(now session.Time, in []netio.Message) {
	// First touch the sessions of the whole batch, so that their cache
	// misses overlap instead of adding up.
	for i := range in {
		r.sessions[i] = r.srv.lookup(in[i].Data())
	}
	for i := range in {
		r.counts.packets[r.packet(now, &in[i], r.sessions[i])].Add(1)
		r.sessions[i] = nil
	}
	r.snd.flush(r.counts)
	r.answers = r.answers[:0]
}

// lookup returns the session that a packet names, or nil.
func (srv *Server) lookup(pkt []byte) *Session {
	_, id, err := wire.ParseData(pkt)
	if err != nil {
		return nil
	}
	slot, tag := srv.table.Find(id)
	if tag != maps.TagLive {
		return nil
	}
	return srv.directory.at(slot)
}
