// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// batchPackets are sealed and sent together at most, and as many may wait behind
	// them: QUIC hands its packets over one by one, and those that have gathered while
	// the last ones were sent leave as one message.
	batchPackets = 32
	// recentPackets of each size are kept to be sent again after an outage. One that
	// asks for an acknowledgement is enough, and QUIC sends its probes in twos; the
	// others are for those that only acknowledge, and for loss.
	recentPackets = 8
	// largePacket parts the sizes: packets that only acknowledge are small, and a row
	// of them must not push out the probes of a transfer.
	largePacket = packetSize / 2
	// replayEvery bounds how often the peer can make us do that.
	replayEvery = 20 * time.Millisecond
)

// packet is memory for one of QUIC's.
type packet [packetSize]byte

var packets = sync.Pool{New: func() any { return new(packet) }}

// sender sends QUIC's packets in batches, and the newest of them again.
type sender struct {
	session Session

	mu           sync.Mutex // guards what follows
	waiting      [][]byte   // of packets
	small, large recent
	replayed     time.Time
	err          error // the session is over

	work chan struct{} // something waits
	room chan struct{} // for more
}

func newSender(s Session) sender {
	return sender{session: s, work: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// put hands a packet over. It waits while a batch is full, which is how a slow
// socket slows QUIC down. It is called by one goroutine at a time.
func (s *sender) put(ctx context.Context, p []byte) error {
	for {
		s.mu.Lock()
		if s.err != nil || len(s.waiting) < batchPackets {
			break
		}
		s.mu.Unlock()
		select {
		case <-s.room:
		case <-ctx.Done():
			return net.ErrClosed
		}
	}
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if len(p) > packetSize {
		return nil // QUIC was told not to; lost
	}
	s.waiting = append(s.waiting, append(packets.Get().(*packet)[:0], p...))
	notify(s.work)
	return nil
}

// run sends what is put, until ctx ends and all that was put before is sent:
// QUIC's last packet tells the peer that it was the last.
func (s *sender) run(ctx context.Context) {
	var batch [][]byte
	for over := false; !over; {
		select {
		case <-s.work:
		case <-ctx.Done():
			over = true
		}
		s.mu.Lock()
		batch, s.waiting = s.waiting, batch[:0]
		s.mu.Unlock()
		notify(s.room)
		err := s.send(batch)
		s.mu.Lock()
		if errors.Is(err, net.ErrClosed) {
			s.err = err
		}
		for i, p := range batch {
			if len(p) < largePacket {
				s.small.keep(p)
			} else {
				s.large.keep(p)
			}
			batch[i] = nil
		}
		s.mu.Unlock()
	}
}

// send sends all that can be sent.
func (s *sender) send(batch [][]byte) (err error) {
	for len(batch) > 0 {
		var n int
		n, err = s.session.SendDatagrams(batch)
		if err == nil || errors.Is(err, net.ErrClosed) {
			return err
		}
		batch = batch[n+1:] // that one is lost
	}
	return err
}

// recent are the newest packets of a size, the oldest of them at next.
type recent struct {
	packets [recentPackets][]byte
	next    int
}

// keep takes p in the place of the oldest.
func (r *recent) keep(p []byte) {
	if old := r.packets[r.next]; old != nil {
		packets.Put((*packet)(old[:packetSize]))
	}
	r.packets[r.next] = p
	r.next = (r.next + 1) % recentPackets
}

// appendTo appends copies, the oldest first.
func (r *recent) appendTo(list [][]byte) [][]byte {
	for i := range r.packets {
		if p := r.packets[(r.next+i)%recentPackets]; p != nil {
			list = append(list, append([]byte(nil), p...))
		}
	}
	return list
}

// replay sends the newest packets once more. After an outage all that was under
// way is lost, and QUIC waits for its probe timer, which has doubled since with
// each probe: up to as long again as the outage was. A copy of a probe that was
// lost is acknowledged, which shows all before it as lost and starts the timer
// anew; a copy of what had come is a duplicate, which QUIC drops. Unlike a path
// change, this costs QUIC neither its window nor its estimate of the RTT.
func (s *sender) replay(now time.Time) {
	s.mu.Lock()
	if now.Sub(s.replayed) < replayEvery {
		s.mu.Unlock()
		return
	}
	s.replayed = now
	copies := s.small.appendTo(s.large.appendTo(nil))
	s.mu.Unlock()
	_ = s.send(copies)
}

// notify puts a token into a channel of one.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
