// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Sessions implements control.Source.
func (d *source) Sessions(f func(control.Live) bool) {
	d.server.EachSession(func(s *server.Session) bool { return f(live{s}) })
}

// live is a session of the server as the control socket shows it.
type live struct{ session *server.Session }

// Read implements control.Live.
func (l live) Read(s *control.Session) {
	info := l.session.Info()
	readSession(s, &info)
}

// readSession sets s to what info says.
func readSession(s *control.Session, info *server.SessionInfo) {
	*s = control.Session{
		ID: info.ID, CurrentID: info.LocalID, PeerKey: info.PeerKey, PeerName: info.PeerName,
		Service: info.Service, State: info.State.String(), Owner: info.Owner,
		Remote: info.Path.Remote, Local: info.Path.Local, Candidates: s.Candidates[:0],
		Started: info.Opened.UTC(), LastReceived: info.LastReceived.UTC(), LastMove: info.MoveCommitted.UTC(),
		Moves: info.Moves.Committed, MovesRefused: info.Moves.Refused, MovesReverted: info.Moves.Reverted,
		ForwardingAlarms: info.ForwardingAlarms, RTT: int64(info.SRTT), PathMTU: info.MTU,
		PacketsReceived: info.Received.Packets, BytesReceived: info.Received.Bytes, DatagramsReceived: info.Received.Datagrams,
		PacketsSent: info.Sent.Packets, BytesSent: info.Sent.Bytes, DatagramsSent: info.Sent.Datagrams,
	}
	for _, path := range info.Candidates[:info.NumCandidates] {
		s.Candidates = append(s.Candidates, path.Remote)
	}
	if s.Candidates == nil {
		s.Candidates = []netip.AddrPort{}
	}
}

// Detail implements control.Live.
func (l live) Detail() control.Detail {
	info := l.session.Info()
	d := control.Detail{
		IDs: l.session.IDs(), SpareIDs: info.SpareLocalIDs, PeerID: info.RemoteID, SparePeerIDs: info.SpareRemoteIDs,
		Epoch: info.Epoch, Rekeying: info.Rekeying, PTO: int64(info.PTO), IdleTimeout: int64(info.IdleTimeout),
		MaxDatagram: l.session.MaxDatagram(), LastSent: info.LastSent.UTC(),
		MovesStarted: info.Moves.Started, MoveStarted: info.MoveStarted.UTC(),
		MoveRefused: info.MoveRefused.UTC(), MoveReverted: info.MoveReverted.UTC(),
		Packets: make(map[string]uint64),
	}
	readSession(&d.Session, &info)
	for reason, n := range info.Counts {
		if n != 0 {
			d.Packets[strings.ReplaceAll(session.Reason(reason).String(), "-", "_")] = n
		}
	}
	return d
}

// Trace implements control.Live.
func (l live) Trace(snap int, f func(*control.Packet)) (stop func()) {
	names := make(map[int]string) // of interfaces; calls come one at a time
	return l.session.Trace(func(t *server.Traced) {
		if t == nil {
			f(nil)
			return
		}
		p := &control.Packet{
			Time: t.Time.UTC(), Stage: t.Stage, Verdict: t.Verdict, Reason: t.Reason, Session: l.session.ID(), ID: t.ID,
			Remote: t.Remote, Local: t.Local, Queue: t.Queue, Bytes: t.Length, Total: t.Total, Data: t.Data,
		}
		switch t.Stage {
		case server.TraceServer:
			p.Link = control.LinkUDP
		case maps.StageXDP.String():
			p.Link, p.Interface = control.LinkEthernet, interfaceName(names, t.Ifindex)
		default:
			p.Link = control.LinkIP
		}
		p.ReadCounter()
		if snap > 0 {
			p.Data = p.Data[:min(snap, len(p.Data))]
		}
		p.Data = bytes.Clone(p.Data)
		f(p)
	})
}

func interfaceName(known map[int]string, index int) string {
	name, ok := known[index]
	if !ok {
		name = strconv.Itoa(index) // gone already
		if i, err := net.InterfaceByIndex(index); err == nil {
			name = i.Name
		}
		known[index] = name
	}
	return name
}

// Close implements control.Live. The client takes it for an end that the server
// wants, and does not come back by itself.
func (l live) Close(reason string) error { return l.session.Close(wire.CloseDone, reason) }
