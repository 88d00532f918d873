// SPDX-License-Identifier: Apache-2.0

package session

import (
	"io"
	"net/netip"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Role is which end of the session this is.
type Role uint8

// The roles.
const (
	Client Role = iota + 1
	Server
)

// String returns the role in words.
func (r Role) String() string {
	switch r {
	case Client:
		return "client"
	case Server:
		return "server"
	}
	return "no role"
}

// peer is the other end.
func (r Role) peer() Role { return Client + Server - r }

// LocalID is an id that this end issued, to receive on.
type LocalID struct {
	Seq   uint32
	ID    wire.ID
	Reset wire.Token
}

// RemoteID is an id that the peer issued, to send on.
type RemoteID struct {
	Seq   uint32
	ID    wire.ID
	Reset wire.Token
}

// IDs issues and retires the ids that a session receives on: the slot table of a
// server, random numbers of a client. The session calls it from within its own
// methods.
type IDs interface {
	// Issue returns a fresh id and its reset token; packets may name it as soon as
	// it returns. On an error the session goes on with the ids that it has and asks
	// again 10 s later or at its next packet after that.
	Issue() (wire.ID, wire.Token, error)
	// Retire gives an id up: no packet that names it is wanted any more. It is
	// called once for each id in Config.Local and from Issue.
	Retire(wire.ID)
}

// Config is what New needs of the handshake and of the caller. Durations of zero
// mean the default stated with the field.
type Config struct {
	Role Role
	// C2S and S2C are the direction secrets of epoch 0, from Noise's Split.
	C2S, S2C [32]byte
	// Local are the ids we issued in the handshake (client: seq 0, 1, 2 in INIT;
	// server: seq 0 in RESP), Remote those of the peer. Both in order from seq 0.
	Local  []LocalID
	Remote []RemoteID
	// Path is the path of the handshake: client, the server's address that RESP
	// came from; server, the address that RESP was sent to.
	Path Path
	IDs  IDs
	// IdleTimeout ends a session in which nothing authentic came for that long
	// (default 24 h): the smaller of both ends' PARAMS. One that never carried a
	// DATAGRAM ends after 60 s whatever this says.
	IdleTimeout time.Duration
	// Keepalive sends a PING when nothing was sent for that long. Zero: never.
	Keepalive time.Duration
	// MaxDatagram is the largest datagram we accept, in bytes, PeerMaxDatagram the
	// largest that the peer's PARAMS accept. Zero: wire-independent default 4740,
	// four parts at the smallest path MTU.
	MaxDatagram     uint16
	PeerMaxDatagram uint16
	// Known are, for a client, further addresses of the server that it may move
	// its sending to (ADDRS of RESP, DNS). Path.Remote is always known.
	Known []netip.AddrPort
	// Random is the source of cookies and tokens; nil: crypto/rand.
	Random io.Reader
	// NoGrease leaves out the random extension frames that keep the extension
	// space open. For tests that compare bytes.
	NoGrease bool
}
