// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
)

// sender gathers what sessions want sent and sends it in one go.
type sender struct {
	srv  *Server
	conn netio.Conn
	out  session.Output
	msgs []netio.Message // ready-made ones first; out's are added by flush

	// ways are those of out's packets, as far as address has come; ready are messages
	// for the queue via.
	ways  []*way
	ready []netio.Message
	via   *exit
}

func (snd *sender) flush(c *counters) {
	for i, p := range snd.out.Packets {
		m := netio.Message{Buf: p.Data, Remote: p.Path.Remote, Local: p.Path.Local}
		w := snd.direct(i)
		switch {
		case snd.srv.lost.has(m.Local.Addr()):
			m.Local = netip.AddrPort{} // the kernel's choice
		case w != nil:
			if w.via != snd.via {
				snd.transmit(c)
			}
			m.Link, snd.via = w.link, w.via
			snd.ready = append(snd.ready, m)
			continue
		}
		snd.msgs = append(snd.msgs, m)
	}
	snd.transmit(c)
	clear(snd.ways)
	snd.ways = snd.ways[:0]
	if len(snd.msgs) > 0 {
		// What the kernel refuses is lost like any packet; the session repeats what matters.
		if n, err := snd.conn.WriteBatch(snd.msgs); err != nil {
			n += snd.again()
			c.sendRefused.Add(uint64(len(snd.msgs) - n))
		}
		clear(snd.msgs)
		snd.msgs = snd.msgs[:0]
	}
	snd.out.Reset()
}

// again sends what was refused for its source and returns how many the kernel took.
func (snd *sender) again() int {
	msgs := snd.srv.reroute(snd.msgs)
	if len(msgs) == 0 {
		return 0
	}
	n, _ := snd.conn.WriteBatch(msgs) // what it refuses once more is counted
	return n
}
