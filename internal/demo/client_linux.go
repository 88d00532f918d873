// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// lastAnswers is how long the client waits for answers after it stopped sending.
const lastAnswers = 500 * time.Millisecond

// runClient opens one session with the library, as any program would, and
// streams numbered datagrams at a steady rate. It is told nothing of networks: it
// finds out by itself.
func runClient(ctx context.Context, in io.Reader, out io.Writer) error {
	setup, following, err := orders(in)
	if err != nil {
		return err
	}
	c := &streamer{setup: setup, out: &speaker{out: out}}
	config := client.Config{Servers: setup.Servers, Service: setup.Service, OnEvent: c.event}
	if err := config.ServerKey.UnmarshalText([]byte(setup.ServerKey)); err != nil {
		return fmt.Errorf("client: server key: %w", err)
	}
	var identity handshake.PrivateKey
	if err := identity.UnmarshalText([]byte(setup.Identity)); err != nil {
		return fmt.Errorf("client: identity: %w", err)
	}
	config.Identity = identity
	if c.session, err = client.Dial(ctx, config); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	defer c.session.Close(wire.CloseDone, "")
	if err := c.out.say(Message{Ready: true}); err != nil {
		return err
	}
	stopFlushing := every(flushEvery, c.flush)
	defer stopFlushing()

	receiving, hangUp := context.WithCancel(ctx)
	defer hangUp()
	var received sync.WaitGroup
	received.Go(func() { c.receive(receiving) })
	sending, stop := context.WithCancel(ctx)
	defer stop()
	var sent sync.WaitGroup
	sent.Go(func() { c.send(sending) })

	<-following // Stop, or the end of our input
	stop()
	sent.Wait()
	time.Sleep(lastAnswers)
	c.flush()
	if err := c.out.say(Message{Stopped: true}); err != nil {
		return err
	}
	for range following {
		// The session stays open until the director has looked at it.
	}
	hangUp()
	received.Wait()
	return nil
}

type streamer struct {
	setup   Setup
	session *client.Session
	out     *speaker

	mu      sync.Mutex
	seen    Message
	refused map[string][]Mark // by error
}

// send keeps the rate over any pause of the scheduler: what fell due meanwhile
// is made up for.
func (c *streamer) send(ctx context.Context) {
	datagram := make([]byte, c.setup.Size)
	binary.BigEndian.PutUint64(datagram, c.setup.Stamp)
	start := time.Now()
	for number := uint64(0); ; number++ {
		due := start.Add(time.Duration(number) * time.Second / time.Duration(c.setup.Rate))
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			return
		}
		binary.BigEndian.PutUint64(datagram[8:], number)
		at := now()
		err := c.session.SendDatagram(datagram)
		c.mu.Lock()
		if err == nil {
			c.seen.Sent = append(c.seen.Sent, mark(number, at))
		} else {
			if c.refused == nil {
				c.refused = map[string][]Mark{}
			}
			c.refused[err.Error()] = append(c.refused[err.Error()], mark(number, at))
		}
		c.mu.Unlock()
	}
}

func (c *streamer) receive(ctx context.Context) {
	buffer := make([]byte, 1<<16)
	for {
		size, err := c.session.ReceiveDatagram(ctx, buffer)
		if err != nil {
			if ctx.Err() == nil {
				_ = c.out.say(Message{Error: fmt.Sprintf("client: the session is lost: %v", err)})
			}
			return
		}
		if size < headerLen || binary.BigEndian.Uint64(buffer) != c.setup.Stamp {
			_ = c.out.say(Message{Error: "client: received a datagram that is no answer of the service"})
			return
		}
		c.mu.Lock()
		c.seen.Echoed = append(c.seen.Echoed, mark(binary.BigEndian.Uint64(buffer[8:size]), now()))
		c.mu.Unlock()
	}
}

func (c *streamer) flush() {
	c.mu.Lock()
	seen, refused := c.seen, c.refused
	c.seen, c.refused = Message{}, nil
	c.mu.Unlock()
	if len(seen.Sent)+len(seen.Echoed) > 0 {
		_ = c.out.say(seen) // a director that is gone has closed our input as well
	}
	for cause, marks := range refused {
		_ = c.out.say(Message{Refused: marks, Cause: cause})
	}
}

// event passes on what the session noticed by itself.
func (c *streamer) event(e client.Event) {
	var text string
	switch e.Kind {
	case client.EventMoving:
		text = fmt.Sprintf("noticed a change, sends from %s instead of %s", e.To.Local.Addr(), e.From.Local.Addr())
	case client.EventNoRoute:
		text = "noticed that no network is left"
	case client.EventRouteBack, client.EventMoveFailed:
		text = e.Kind.String()
		if e.Err != nil {
			text += ": " + e.Err.Error()
		}
	default:
		return
	}
	_ = c.out.say(Message{Event: text})
}
