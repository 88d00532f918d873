// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

// Descriptors that the attacker is started with: a raw socket to send frames
// with any source, and taps on the client's networks.
const (
	rawFD      = 3
	firstTapFD = 4
)

// burst bounds what an attack sends at once: a veth ring holds 256 packets, and
// its overflow would drop the client's packets together with the attacker's,
// which no server could prevent.
const burst = 24

// runAttacker waits for orders to attack and carries them out, several at once.
func runAttacker(ctx context.Context, in io.Reader, out io.Writer) error {
	setup, following, err := orders(in)
	if err != nil {
		return err
	}
	var key handshake.PublicKey
	if err := key.UnmarshalText([]byte(setup.ServerKey)); err != nil {
		return fmt.Errorf("attacker: %w", err)
	}
	raw, err := inherited(rawFD, "raw socket")
	if err != nil {
		return err
	}
	a := &attacker{
		raw: raw, own: setup.MAC, gateway: setup.GatewayMAC, out: &speaker{out: out},
		arsenal: arsenal{
			sniffer: &sniffer{port: setup.Servers[0].Port()}, servers: setup.Servers, mac1: handshake.NewMAC1Key(key),
		},
	}
	for i := range setup.Taps {
		tap, err := inherited(firstTapFD+i, "tap")
		if err != nil {
			return err
		}
		go a.sniff(tap)
	}
	if err := a.out.say(Message{Ready: true}); err != nil {
		return err
	}
	return a.obey(ctx, following)
}

// inherited opens a descriptor that we were started with.
func inherited(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("attacker: descriptor %d (%s): %w", fd, name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

type attacker struct {
	arsenal
	raw          *os.File
	own, gateway [6]byte
	out          *speaker
}

func (a *attacker) sniff(tap *os.File) {
	for frame := make([]byte, 1<<16); ; {
		size, err := tap.Read(frame)
		if err == nil {
			a.sniffer.see(frame[:size])
		} else if !errors.Is(err, unix.ENETDOWN) { // told once each time the link goes down
			return
		}
	}
}

// obey starts attacks as it is told, ends them at Stop, and returns at the end
// of its input.
func (a *attacker) obey(ctx context.Context, following <-chan Order) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	for order := range following {
		if order.Stop {
			cancel()
			running.Wait()
			if err := a.out.say(Message{Stopped: true}); err != nil {
				return err
			}
			continue
		}
		next := a.attack(order.Attack)
		if next == nil {
			return fmt.Errorf("attacker: no attack is called %q", order.Attack)
		}
		sender, err := newSender(a)
		if err != nil {
			return err
		}
		running.Go(func() {
			limited := ctx
			if order.For > 0 {
				var done context.CancelFunc
				limited, done = context.WithTimeout(ctx, order.For)
				defer done()
			}
			sender.run(limited, order.Attack, order.Rate, next)
			_ = a.out.say(Message{Volley: sender.finish()})
		})
	}
	return nil
}

// sender sends one attack's packets and counts what comes back.
type sender struct {
	attacker *attacker
	conn     *net.UDPConn // the attacker's own address, both families
	frame    []byte
	volley   Volley

	heard sync.WaitGroup
}

func newSender(a *attacker) (*sender, error) {
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, fmt.Errorf("attacker: %w", err)
	}
	s := &sender{attacker: a, conn: conn}
	s.heard.Go(s.listen)
	return s, nil
}

func (s *sender) listen() {
	for b := make([]byte, 2048); ; {
		size, _, err := s.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		s.volley.Answers++
		s.volley.AnswerBytes += uint64(size)
	}
}

// run sends at a steady rate. What could not be sent in time is given up rather
// than sent in one lump.
func (s *sender) run(ctx context.Context, name string, rate int, next attack) {
	s.volley.Attack = name
	start, done := time.Now(), 0
	for ctx.Err() == nil {
		due := int(time.Since(start).Seconds()*float64(rate)) - done
		if due > burst {
			done += due - burst
			due = burst
		}
		for range due {
			done++
			if h, ok := next(); ok {
				s.send(h)
			}
		}
		select {
		case <-time.After(max(time.Second/time.Duration(rate), 500*time.Microsecond)):
		case <-ctx.Done():
		}
	}
}

func (s *sender) send(h hostile) {
	var err error
	if h.source == (netip.AddrPort{}) {
		_, err = s.conn.WriteToUDPAddrPort(h.payload, h.to)
	} else {
		s.frame = appendFrame(s.frame[:0], s.attacker.own, s.attacker.gateway, h.source, h.to, h.payload)
		_, err = s.attacker.raw.Write(s.frame)
	}
	if err == nil {
		s.volley.Sent++
		s.volley.SentBytes += uint64(len(h.payload))
	}
}

// finish waits a moment for late answers.
func (s *sender) finish() *Volley {
	time.Sleep(50 * time.Millisecond)
	s.conn.Close()
	s.heard.Wait()
	return &s.volley
}
