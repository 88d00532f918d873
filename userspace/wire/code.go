// SPDX-License-Identifier: Apache-2.0

package wire

import "strconv"

// CloseCode says why a session was closed.
type CloseCode uint16

// The close codes of docs/PROTOCOL.md.
const (
	CloseDone          CloseCode = 0
	CloseProtocolError CloseCode = 1
	CloseIdle          CloseCode = 2
	CloseServiceGone   CloseCode = 3
	CloseNotAuthorised CloseCode = 4
	CloseShuttingDown  CloseCode = 5
	CloseLimit         CloseCode = 6
)

// String returns the code in words.
func (c CloseCode) String() string {
	switch c {
	case CloseDone:
		return "done"
	case CloseProtocolError:
		return "protocol error"
	case CloseIdle:
		return "idle"
	case CloseServiceGone:
		return "service gone"
	case CloseNotAuthorised:
		return "not authorised any more"
	case CloseShuttingDown:
		return "shutting down"
	case CloseLimit:
		return "limit"
	}
	return "code " + strconv.Itoa(int(c))
}

// Status is the server's answer in RESP.
type Status uint16

// The statuses of docs/PROTOCOL.md.
const (
	StatusAccepted      Status = 0
	StatusNoService     Status = 1
	StatusNotAuthorised Status = 2
	StatusBusy          Status = 3
	StatusFull          Status = 4
)

// String returns the status in words.
func (s Status) String() string {
	switch s {
	case StatusAccepted:
		return "accepted"
	case StatusNoService:
		return "no such service"
	case StatusNotAuthorised:
		return "not authorised"
	case StatusBusy:
		return "busy"
	case StatusFull:
		return "full"
	}
	return "status " + strconv.Itoa(int(s))
}
