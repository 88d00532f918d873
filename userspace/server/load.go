// SPDX-License-Identifier: Apache-2.0

package server

// LaneQueue names, among the lanes of WorkerStats, the queues of AddQueue.
const LaneQueue = "queue"

// WorkerStats is what the sockets and queues of one worker have brought since the
// start. A queue that is removed takes its counts with it.
type WorkerStats struct {
	Worker int
	// Packets by the name of the lane that brought them; Dropped are those of all lanes
	// whose verdict is a drop.
	Packets map[string]uint64
	Dropped uint64
	// SocketDrops are those of Stats, by the name of the lane.
	SocketDrops map[string]uint64
}

// Workers returns the counts of each worker.
func (srv *Server) Workers() []WorkerStats {
	stats := make([]WorkerStats, len(srv.workers))
	for i := range stats {
		stats[i] = WorkerStats{Worker: i, Packets: make(map[string]uint64), SocketDrops: make(map[string]uint64)}
	}
	for _, r := range srv.readers {
		w := &stats[r.worker.index]
		w.add(r.lane.String(), r.counts)
		w.SocketDrops[r.lane.String()] += r.conn.Dropped()
	}
	srv.queues.mu.Lock()
	defer srv.queues.mu.Unlock()
	for r := range srv.queues.open {
		stats[r.worker.index].add(LaneQueue, r.counts)
	}
	return stats
}

func (w *WorkerStats) add(lane string, c *counters) {
	for reason := notCounted; reason < numReasons; reason++ { // an INIT was brought, too, before a handshake worker took it
		n := c.packets[reason].Load()
		w.Packets[lane] += n
		if reason.Verdict() == VerdictDrop {
			w.Dropped += n
		}
	}
}
