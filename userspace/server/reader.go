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
	via    *exit // the source, if it is a Queue that sends
	counts *counters
	tally  tally
	work   work

	in       []netio.Message
	parts    []netio.Message     // of a batch in which a message holds several packets (UDP_GRO)
	sessions [batchSize]*Session // of the packet at the same place
	recent   recent
	cold     []touched // what find touches
	snd      sender
	// answers holds the RETRY, VERSIONS and resets of a batch.
	answers []byte
}

// maxAnswer is the length of the longest of them.
const maxAnswer = max(wire.RetryLen, handshake.MaxReset)

func newReader(w *worker, lane maps.Lane, conn netio.Conn, c *counters) *reader {
	size := wire.MaxPacket
	if !w.srv.cfg.NoGRO {
		size = netio.TrainRoom // of which single packets touch no more than they need
	}
	return &reader{
		worker: w, srv: w.srv, lane: lane, conn: conn, source: conn, counts: c,
		in: netio.MakeMessages(batchSize, size), snd: sender{srv: w.srv, conn: conn},
		answers: make([]byte, 0, batchSize*maxAnswer),
	}
}

// run reads until the socket is closed.
func (r *reader) run() {
	for {
		n, err := r.source.ReadBatch(r.in)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if r.work.lasts(r.srv.clock.now()) == 0 {
				r.work.begin(r.srv.clock.now()) // until it reads again
			}
			r.srv.cfg.Log.Error("a socket fails to read", "lane", r.lane.String(), "worker", r.worker.index, "error", err)
			select { // whatever it is, do not spin on it
			case <-r.srv.ended.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		now := r.srv.clock.now()
		r.work.begin(now)
		r.batch(now, r.in[:n])
		r.work.end()
	}
}

// batch works off what one read brought.
func (r *reader) batch(now session.Time, in []netio.Message) {
	for i := range in {
		if in[i].Segment > 0 {
			r.parts = netio.Split(r.parts[:0], in)
			in = r.parts
			break
		}
	}
	for len(in) > 0 {
		n := min(len(in), batchSize)
		r.packets(now, in[:n])
		in = in[n:]
	}
}

// packets works off at most batchSize packets and sends what comes of them.
func (r *reader) packets(now session.Time, in []netio.Message) {
	r.find(in)
	for i := 0; i < len(in); {
		s := r.sessions[i]
		if s == nil {
			r.tally.add(r.packet(now, &in[i]), r.counts)
			i++
			continue
		}
		end := i + 1
		for end < len(in) && r.sessions[end] == s {
			end++
		}
		r.expect(in[end:])
		r.data(now, in[i:end], s)
		i = end
	}
	clear(r.sessions[:len(in)])
	r.tally.flush(r.counts)
	r.snd.flush(r.counts)
	r.answers = r.answers[:0]
}

// tally adds up the packets of one reason, as most of a batch are, before they are
// counted where others look.
type tally struct {
	reason Reason
	n      uint64
}

func (t *tally) add(r Reason, c *counters) {
	if r != t.reason {
		t.flush(c)
		t.reason = r
	}
	t.n++
}

func (t *tally) flush(c *counters) {
	if t.n > 0 {
		c.packets[t.reason].Add(t.n)
		t.n = 0
	}
}
