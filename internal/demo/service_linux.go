// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// headerLen is what the client puts in front of each datagram: the run's stamp
// and the datagram's number.
const headerLen = 16

// flushEvery is how often a part reports what it saw: seldom enough to cost
// nothing, often enough to follow.
const flushEvery = 20 * time.Millisecond

// runService is a plain UDP service that knows nothing of sessions: it sends each
// datagram back to where it came from and reports its number.
func runService(ctx context.Context, in io.Reader, out io.Writer) error {
	setup, more, err := orders(in)
	if err != nil {
		return err
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(setup.Listen))
	if err != nil {
		return fmt.Errorf("UDP service: %w", err)
	}
	defer conn.Close()
	if err := conn.SetReadBuffer(4 << 20); err != nil {
		return fmt.Errorf("UDP service: %w", err)
	}
	s := &service{stamp: setup.Stamp, conn: conn, out: &speaker{out: out}}
	if err := s.out.say(Message{Ready: true}); err != nil {
		return err
	}
	go func() { // the end of the input, or of the process around us, ends the service
		select {
		case <-more:
		case <-ctx.Done():
		}
		conn.Close()
	}()
	stop := every(flushEvery, s.flush)
	s.serve()
	stop()
	s.flush()
	return nil
}

type service struct {
	stamp uint64
	conn  *net.UDPConn
	out   *speaker

	mu   sync.Mutex
	seen Message
}

func (s *service) serve() {
	buffer := make([]byte, 1<<16)
	for {
		size, from, err := s.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		s.note(buffer[:size], from)
	}
}

// note answers a datagram and remembers that it came. What lacks the stamp is
// not answered: it is what must never happen.
func (s *service) note(datagram []byte, from netip.AddrPort) {
	at := now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(datagram) < headerLen || binary.BigEndian.Uint64(datagram) != s.stamp {
		s.seen.Unknown++
		return
	}
	s.seen.Arrived = append(s.seen.Arrived, mark(binary.BigEndian.Uint64(datagram[8:]), at))
	// A failed send shows as a lost answer.
	_, _ = s.conn.WriteToUDPAddrPort(datagram, from)
}

func (s *service) flush() {
	s.mu.Lock()
	seen := s.seen
	s.seen = Message{}
	s.mu.Unlock()
	if len(seen.Arrived) > 0 || seen.Unknown > 0 {
		_ = s.out.say(seen) // a director that is gone has closed our input as well
	}
}

// every calls f at intervals until stop, which returns after the last call.
func every(interval time.Duration, f func()) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				f()
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
