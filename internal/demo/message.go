// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"
)

// Setup is what a part reads first from its standard input, one JSON object.
// Secrets travel this way so that no argument list shows them.
type Setup struct {
	// Stamp opens every datagram of the client, so that the service can tell
	// what is not the client's.
	Stamp uint64 `json:"stamp"`

	Listen netip.AddrPort `json:"listen"` // service

	Servers   []netip.AddrPort `json:"servers"` // client and attacker
	ServerKey string           `json:"server_key"`
	Service   uint16           `json:"service"`  // client: the service port that it asks for
	Identity  string           `json:"identity"` // client
	Rate      int              `json:"rate"`     // datagrams each second
	Size      int              `json:"size"`     // bytes of a datagram

	MAC        [6]byte `json:"mac"` // attacker: its own and its router's
	GatewayMAC [6]byte `json:"gateway_mac"`
	Taps       int     `json:"taps"` // descriptors 3 and on are taps
}

// Order is what the director tells a part while it runs, one JSON object a line.
type Order struct {
	// Stop ends the client's sending; it goes on receiving.
	Stop bool `json:"stop,omitempty"`
	// Attack starts one; Rate is in packets each second.
	Attack string        `json:"attack,omitempty"`
	Rate   int           `json:"rate,omitempty"`
	For    time.Duration `json:"for,omitempty"` // zero: until the end
}

// Message is what a part says, one JSON object a line. Each uses the fields
// that are its own.
type Message struct {
	Ready bool   `json:"ready,omitempty"`
	Error string `json:"error,omitempty"` // the part cannot go on

	Sent    []Mark `json:"sent,omitempty"`
	Refused []Mark `json:"refused,omitempty"` // with Cause
	Cause   string `json:"cause,omitempty"`
	Echoed  []Mark `json:"echoed,omitempty"`
	Stopped bool   `json:"stopped,omitempty"`
	Event   string `json:"event,omitempty"` // of the client's session, for people

	Arrived []Mark `json:"arrived,omitempty"`
	Unknown int    `json:"unknown,omitempty"`

	Volley *Volley `json:"volley,omitempty"`
}

// Volley is what the attacker did in one attack.
type Volley struct {
	Attack string `json:"attack"`
	Sent   uint64 `json:"sent"`
	// What came back to the attacker's own address while it lasted.
	Answers     uint64 `json:"answers"`
	AnswerBytes uint64 `json:"answer_bytes"`
	SentBytes   uint64 `json:"sent_bytes"`
}

// speaker writes messages of several goroutines, each whole.
type speaker struct {
	mu  sync.Mutex
	out io.Writer
}

func (s *speaker) say(m Message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.out.Write(append(line, '\n'))
	return err
}

// orders reads the setup and returns the channel of what follows, which is
// closed at the end of the input.
func orders(in io.Reader) (Setup, <-chan Order, error) {
	decoder := json.NewDecoder(bufio.NewReader(in))
	var setup Setup
	if err := decoder.Decode(&setup); err != nil {
		return setup, nil, fmt.Errorf("reading the setup from standard input (only `xdp-roam demo` starts this command): %w", err)
	}
	following := make(chan Order)
	go func() {
		defer close(following)
		for {
			var o Order
			if decoder.Decode(&o) != nil {
				return
			}
			following <- o
		}
	}()
	return setup, following, nil
}
