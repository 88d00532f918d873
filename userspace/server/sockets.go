// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net/netip"

	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
)

// socketBuffer is the receive buffer of each socket in bytes: some 10 ms of a
// 10 Gbit/s link, for a worker that is held up.
const socketBuffer = 8 << 20

// openSockets opens one socket a worker or, where a data plane tells the lanes
// apart, a main and a candidate socket a worker and one for handshakes. All are
// one reuseport group on one address.
func (srv *Server) openSockets() error {
	addr := srv.cfg.Listen
	open := func(w *worker, lane maps.Lane) error {
		conn, err := netio.ListenUDP(netio.Config{Addr: addr, ReusePort: srv.grouped(), ReadBuffer: socketBuffer})
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

// grouped says whether several sockets share the address. A single one does
// not ask for it, so that a port in use is noticed.
func (srv *Server) grouped() bool { return srv.cfg.Workers > 1 || srv.cfg.Maps != nil }

func (srv *Server) closeSockets() error {
	var errs []error
	for _, r := range srv.readers {
		if srv.cfg.Maps != nil {
			errs = append(errs, srv.unregister(r))
		}
		errs = append(errs, r.conn.Close())
	}
	return errors.Join(errs...)
}
