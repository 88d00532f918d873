// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"strconv"
	"time"
)

// Time is a monotonic time since an arbitrary start that the caller chooses once
// for a Session. It never steps, whatever the wall clock does.
type Time = time.Duration

// Path is where packets come from and go to. Two paths are the same when Socket
// and Remote are (see Same); Local is an attribute that may change under them.
type Path struct {
	// Socket numbers the caller's sockets. A client uses another number for each
	// socket that it opens, since an old socket is a path that it has left. A
	// server uses 0 throughout: to it the lane that a packet took says nothing.
	Socket uint32
	// Remote is the peer's address, unmapped (netip.Addr.Unmap).
	Remote netip.AddrPort
	// Local is our address that the packet came to and that an answer leaves
	// from; the zero value leaves the choice to the system.
	Local netip.AddrPort
}

// Same reports whether p and q are one path: the same socket and remote address.
func (p Path) Same(q Path) bool { return p.Socket == q.Socket && p.Remote == q.Remote }

// String returns the remote address, and the socket number unless it is 0.
func (p Path) String() string {
	if p.Socket == 0 {
		return p.Remote.String()
	}
	return p.Remote.String() + "#" + strconv.FormatUint(uint64(p.Socket), 10)
}
