// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"fmt"
	"time"
)

// Limits bounds the sessions of one service, and among them those of one client, that is,
// one key. Zero: see each field.
type Limits struct {
	// Sessions and ClientSessions at a time; zero: as many as the server takes.
	Sessions, ClientSessions int
	// Streams and ClientStreams at a time, of services for streams; zero: any, and 256.
	Streams, ClientStreams int
	// Rate and ClientRate are payload bytes per second, for each direction separately;
	// zero: unlimited. Streams are slowed down, excess datagrams are dropped.
	Rate, ClientRate int64
	// ConnectTimeout bounds the connection of a stream's backend; zero: 10 s.
	ConnectTimeout time.Duration
	// IdleTimeout resets a stream without traffic in either direction for that time;
	// zero: never.
	IdleTimeout time.Duration
}

// ErrLimits means that limits contradict their service or themselves.
var ErrLimits = errors.New("bad limits")

const (
	defaultClientStreams  = 256
	defaultConnectTimeout = 10 * time.Second
)

func (l Limits) withDefaults(streams bool) (Limits, error) {
	for _, n := range []int64{int64(l.Sessions), int64(l.ClientSessions), int64(l.Streams), int64(l.ClientStreams),
		l.Rate, l.ClientRate, int64(l.ConnectTimeout), int64(l.IdleTimeout)} {
		if n < 0 {
			return l, fmt.Errorf("%w: one is below zero; 0 stands for none", ErrLimits)
		}
	}
	if !streams && (l.Streams != 0 || l.ClientStreams != 0 || l.ConnectTimeout != 0 || l.IdleTimeout != 0) {
		return l, fmt.Errorf("%w: numbers of streams, connect and idle timeouts are for tcp: and unix: backends", ErrLimits)
	}
	if l.ClientStreams == 0 {
		l.ClientStreams = defaultClientStreams
	}
	if l.ConnectTimeout == 0 {
		l.ConnectTimeout = defaultConnectTimeout
	}
	return l, nil
}
