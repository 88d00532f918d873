// SPDX-License-Identifier: Apache-2.0

// Package metrics exports an edge's counters to Prometheus. They exist anyway and are
// read on request, so metrics cost nothing per packet. No label has a value
// for each session, client or address: their number has no bound.
package metrics

import (
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/service"
)

// Sample is one look at an edge.
type Sample struct {
	// Edge is the name of the instance, Version that of the build, Mode how packets
	// are steered.
	Edge, Version, Mode string
	Draining            bool
	// DataPlane is nil where there is none.
	DataPlane  *maps.Snapshot
	Server     server.Stats
	Interfaces []Interface
	Services   []Service
	// Clients is nil where every key is served.
	Clients *Clients
}

// Interface is a network interface that has, or should have, the XDP program.
type Interface struct {
	Name, Mode string
	Degraded   bool
	// Queues of Sockets AF_XDP sockets; none of either in other modes.
	Queues, Sockets int
}

// Service is what one service port is used for.
type Service struct {
	Port uint16
	service.Use
}

// Clients is the list of authorized keys.
type Clients struct {
	Number int
	// Stale: the file as it is now was not taken; an older list is in force.
	Stale bool
}
