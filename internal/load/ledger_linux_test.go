// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"strings"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/session"
)

// entry is a number with a name.
type entry struct {
	name string
	n    uint64
}

// hop is one step on the way: what came in must be what went out. Each number is
// another counter than those of its other side.
type hop struct {
	name    string
	in, out []entry
}

func sum(list []entry) (n uint64) {
	for _, e := range list {
		n += e.n
	}
	return n
}

func (h *hop) balanced() bool { return sum(h.in) == sum(h.out) }

// String shows the hop on one line, without zeros.
func (h *hop) String() string {
	show := func(list []entry) string {
		var parts []string
		for i, e := range list {
			if e.n != 0 || i == 0 {
				parts = append(parts, fmt.Sprintf("%s %d", e.name, e.n))
			}
		}
		return strings.Join(parts, " + ")
	}
	verdict := ""
	if !h.balanced() {
		verdict = fmt.Sprintf("   OFF BY %d", int64(sum(h.in)-sum(h.out)))
	}
	return fmt.Sprintf("%-28s %s = %s%s", h.name+":", show(h.in), show(h.out), verdict)
}

// ledger closes the account of all packets and datagrams. filtered: there is XDP.
func (s *snapshot) ledger(filtered bool) []hop {
	return append(s.up(filtered), s.down()...)
}

// up follows what the clients send to the server's application.
func (s *snapshot) up(filtered bool) []hop {
	c, st := &s.clients, &s.server
	hops := []hop{
		{"clients' sessions", []entry{{"datagrams", c.offered}}, []entry{{"sealed", c.sentDatagrams}}},
		{"clients' sockets", []entry{{"packets", c.sentPackets}, {"INITs", c.inits}}, []entry{{"sent", c.sent}, {"send_refused", c.refused}}},
		{
			"clients' host", []entry{{"packets", c.sent}, {"icmp", s.clientHost.protocols["Icmp.OutMsgs"]}},
			[]entry{{"sent", s.clientHost.sent}, {"link's tx_dropped", s.clientHost.sendDropped}},
		},
	}
	arrived := entry{"frames", s.clientHost.sent}
	if filtered {
		xdp := hop{"roam_xdp", []entry{arrived}, nil}
		var passed, redirected uint64
		for r, n := range s.data.Packets[maps.StageXDP] {
			switch reason := maps.Reason(r); reason.Verdict(maps.StageXDP) {
			case maps.VerdictPass:
				passed += n
			case maps.VerdictRedirect:
				redirected += n
			default:
				xdp.out = append(xdp.out, entry{reason.String(), n})
			}
		}
		xdp.out = append([]entry{{"passed", passed}, {"redirected", redirected}}, xdp.out...)
		drops := st.QueueDrops
		hops = append(hops, xdp, hop{"AF_XDP queues", []entry{{"redirected", redirected}}, []entry{
			{"read", s.queue}, {"queue_no_frame", drops.NoFrame}, {"queue_ring_full", drops.RingFull}, {"queue_malformed", drops.Malformed},
		}})
		arrived = entry{"passed", passed}
	}
	var delivered uint64
	var refused []entry
	for r, n := range s.data.Packets[maps.StageSocket] {
		if reason := maps.Reason(r); reason.Verdict(maps.StageSocket) == maps.VerdictDeliver {
			delivered += n
		} else {
			refused = append(refused, entry{reason.String(), n})
		}
	}
	full := []entry{{"read", s.socketRead}}
	for lane, n := range st.SocketDrops {
		full = append(full, entry{"socket_full_" + maps.Lane(lane).String(), n})
	}
	met := hop{"server", []entry{{"of sockets", s.socketRead}, {"of queues", s.queue}}, []entry{{"opened", s.sessions.receivedPackets}}}
	for r, n := range st.Packets {
		if reason := server.Reason(r); reason != server.Delivered && reason != server.Probed {
			met.out = append(met.out, entry{reason.String(), n})
		}
	}
	return append(hops,
		hop{"edge's wire to IP", []entry{arrived}, []entry{{"packets", s.edgeHost.received()}}},
		hop{
			"edge's stack", []entry{{"packets", s.edgeHost.received()}},
			append(append([]entry{{"to sockets", delivered}}, refused...), s.edgeHost.stackDrops()...),
		},
		hop{"server's sockets", []entry{{"to sockets", delivered}}, full},
		met,
		hop{"server's sessions", []entry{{"datagrams", s.sessions.receivedDatagrams}}, []entry{
			{"delivered", s.delivered}, {"datagram_queue_full", st.DatagramsDropped},
		}},
	)
}

// down follows what the server's application sends to the clients.
func (s *snapshot) down() []hop {
	c, st := &s.clients, &s.server
	answers := []entry{{"packets", s.sessions.sentPackets}}
	for r, n := range st.Packets {
		if reason := server.Reason(r); reason.Verdict() == server.VerdictAnswer {
			answers = append(answers, entry{reason.String(), n})
		}
	}
	opened := hop{"clients' packets", []entry{{"read", c.read}}, []entry{{"opened", c.receivedPackets}, {"handshake", c.handshakes}, {"late", c.late}}}
	for r := session.Malformed; r <= session.StatelessReset; r++ {
		opened.out = append(opened.out, entry{r.String(), c.reasons[r]})
	}
	return []hop{
		{"server's application", []entry{{"datagrams", s.offered}}, []entry{{"sealed", s.sessions.sentDatagrams}}},
		{
			"edge's host", append(answers, entry{"icmp", s.edgeHost.protocols["Icmp.OutMsgs"]}),
			[]entry{{"sent", s.edgeHost.sent}, {"link's tx_dropped", s.edgeHost.sendDropped}, {"send_refused", st.SendRefused}},
		},
		{"clients' wire to IP", []entry{{"frames", s.edgeHost.sent}}, []entry{{"packets", s.clientHost.received()}}},
		{
			"clients' stack", []entry{{"packets", s.clientHost.received()}},
			append([]entry{
				{"read", c.read}, {"socket_full", c.socketDropped}, {"NAT's mapping gone", c.unmapped + c.unmappedDropped}, {"closed socket", c.unread},
			}, s.clientHost.stackDrops()...),
		},
		opened,
		{"clients' datagrams", []entry{{"datagrams", c.receivedDatagrams}}, []entry{{"delivered", c.delivered}, {"overflow", c.overflow}}},
	}
}
