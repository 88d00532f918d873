// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"sync"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
)

// Queue is a source of packets in addition to the server's own sockets: the AF_XDP socket
// of a receive queue (netio.XSK). What it reads is valid until its next read.
type Queue interface {
	ReadBatch([]netio.Message) (int, error)
	// Drops says what it lost; after Close too.
	Drops() netio.Drops
	Close() error
}

// queues are those that come and go with interfaces.
type queues struct {
	mu     sync.Mutex
	open   map[*reader]Queue
	closed bool
	next   int // worker of the next one
	// gone are the counts of those that were removed.
	gone      counters
	goneDrops netio.Drops
}

// AddQueue lets a worker read a queue until remove is called, or the server
// closed, which closes the queue. Its packets are trusted as little as any
// others, and any worker opens them. If it is a Transmitter, single packets to the
// sessions whose packets come by it leave by it; all others by the worker's UDP socket.
// It fails with ErrClosed, and leaves the queue open then.
func (srv *Server) AddQueue(q Queue) (remove func() error, err error) {
	qs := &srv.queues
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if qs.closed {
		return nil, ErrClosed
	}
	w := srv.workers[qs.next%len(srv.workers)]
	qs.next++
	r := newReader(w, maps.LaneMain, w.conn, new(counters))
	r.source, r.in = q, make([]netio.Message, batchSize) // into the queue's own memory
	r.via = newExit(q)
	if qs.open == nil {
		qs.open = make(map[*reader]Queue)
	}
	qs.open[r] = q
	ended := make(chan struct{})
	srv.readersWG.Go(func() {
		defer close(ended)
		r.run()
	})
	return sync.OnceValue(func() error {
		err := q.Close()
		<-ended
		srv.forget(r)
		return err
	}), nil
}

// forget keeps the counts of a queue that is not read any more.
func (srv *Server) forget(r *reader) {
	qs := &srv.queues
	qs.mu.Lock()
	defer qs.mu.Unlock()
	q, open := qs.open[r]
	if !open {
		return
	}
	delete(qs.open, r)
	if r.via != nil {
		r.via.queue.Store(nil)
	}
	srv.ForgetWays() // that lead through it
	qs.gone.add(r.counts)
	qs.goneDrops.Add(q.Drops())
}

// closeQueues closes all and lets no further one in. Their readers end by it.
func (srv *Server) closeQueues() error {
	qs := &srv.queues
	qs.mu.Lock()
	defer qs.mu.Unlock()
	qs.closed = true
	var errs []error
	for _, q := range qs.open {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}

// count adds what queues have counted.
func (qs *queues) count(st *Stats) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	st.Queues = len(qs.open)
	st.add(&qs.gone)
	st.QueueDrops = qs.goneDrops
	for r, q := range qs.open {
		st.add(r.counts)
		st.QueueDrops.Add(q.Drops())
	}
}
