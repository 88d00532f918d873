// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net/netip"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
)

// socketBuffer is the receive buffer of each socket in bytes, for a worker that
// is held up: some milliseconds of a 10 Gbit/s link.
const socketBuffer = 8 << 20

// openSockets opens one socket a worker or, where a data plane tells the lanes
// apart, a main and a candidate socket a worker and one for handshakes. All are
// one reuseport group on one address.
func (srv *Server) openSockets() error {
	addr := srv.cfg.Listen
	grouped := srv.cfg.Workers > 1 || srv.cfg.Maps != nil
	if grouped {
		if err := probe(addr); err != nil {
			return err
		}
	}
	open := func(w *worker, lane maps.Lane) error {
		conn, err := netio.ListenUDP(netio.Config{Addr: addr, ReusePort: grouped, ReadBuffer: socketBuffer, GRO: !srv.cfg.NoGRO})
		if err != nil {
			return err
		}
		// Port 0 becomes a real one with the first socket; the others join it.
		addr = netip.AddrPortFrom(addr.Addr(), conn.LocalAddr().Port())
		srv.readers = append(srv.readers, newReader(w, lane, conn, srv.newCounters()))
		return nil
	}
	for i := range srv.cfg.Workers {
		w := &worker{srv: srv, index: uint16(i), wheel: newWheel(srv.clock.now()), counts: srv.newCounters()}
		srv.workers = append(srv.workers, w)
		if err := open(w, maps.LaneMain); err != nil {
			return err
		}
		w.conn = srv.readers[len(srv.readers)-1].conn
		if srv.cfg.Maps == nil {
			continue
		}
		if err := open(w, maps.LaneCandidate); err != nil {
			return err
		}
		if i == 0 {
			if err := open(w, maps.LaneHandshake); err != nil {
				return err
			}
		}
	}
	srv.addr = srv.workers[0].conn.LocalAddr()
	if srv.cfg.Maps == nil {
		return nil
	}
	return srv.registerSockets()
}

// probe fails if the address is in use. The sockets of a group share it with
// whoever else of the same user asks for it, so two servers on one port would
// go unnoticed, each with half of the packets.
func probe(addr netip.AddrPort) error {
	conn, err := netio.ListenUDP(netio.Config{Addr: addr})
	if err != nil {
		return err
	}
	return conn.Close()
}

func (srv *Server) closeSockets() error {
	errs := []error{srv.closeSink(), srv.closeQueues()}
	for _, r := range srv.readers {
		if srv.cfg.Maps != nil {
			errs = append(errs, srv.unregister(r))
		}
		errs = append(errs, r.conn.Close())
	}
	return errors.Join(errs...)
}
