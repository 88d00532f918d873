// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

var (
	// ErrNoAnswer is what a NoAnswerError matches by errors.Is.
	ErrNoAnswer = errors.New("the server does not answer")
	// ErrNoRoute means that this host has no route to any address of the server.
	ErrNoRoute = errors.New("no route to the server")
	// ErrTooLarge means that the server does not accept a datagram of that size; see
	// Session.MaxDatagram.
	ErrTooLarge = session.ErrTooLarge
	// ErrLost means that the server no longer knows the session: it was restarted, or
	// has forgotten it for another reason.
	ErrLost = errors.New("the server no longer knows the session")
	// ErrSilent means that nothing is received from the server any more, on any path.
	ErrSilent = errors.New("no way leads to the server")
)

// NoAnswerError says that no RESP came that opened. A server keeps silent
// towards everyone who does not know its key, so a wrong key and a wrong address
// look the same; what did come tells more.
type NoAnswerError struct {
	Servers []netip.AddrPort
	After   time.Duration
	Inits   int // how many were sent
	// Retried: a RETRY came, so something at that address knows the server's key.
	Retried bool
	// Unopened: a RESP came that does not open with our keys.
	Unopened bool
	// Cause is the context's error if it ended the wait, or nil.
	Cause error
}

// Error says what to check, by what came.
func (e *NoAnswerError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no answer from %s in %v (%d packets sent)", addrList(e.Servers), e.After.Round(time.Millisecond), e.Inits)
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	switch {
	case e.Unopened:
		b.WriteString(": an answer came that does not open: check that both ends have the same preshared key")
	case e.Retried:
		b.WriteString(": it asked for a cookie and got it back, so address and key are right: " +
			"the server is overloaded, or packets from here are lost on the way")
	default:
		b.WriteString(": check the address and port, that firewalls let UDP through both ways, and the server's public key " +
			"(a server is silent towards a client that does not know its key)")
	}
	return b.String()
}

// Is makes errors.Is find ErrNoAnswer.
func (e *NoAnswerError) Is(target error) bool { return target == ErrNoAnswer }

// Unwrap returns Cause.
func (e *NoAnswerError) Unwrap() error { return e.Cause }

// RefusedError says that the server answered and said no.
type RefusedError struct {
	Status wire.Status
	Code   wire.CloseCode
	Reason string // the server's words; may be empty
	// Key is who the server took us for.
	Key handshake.PublicKey
}

// Error gives the server's reason and, where there is one, the way out.
func (e *RefusedError) Error() string {
	msg := "the server refused: " + e.Status.String()
	if e.Reason != "" {
		msg += ": " + e.Reason
	}
	switch e.Status {
	case wire.StatusNotAuthorised:
		msg += "; this client's public key is " + e.Key.String() + ": the server's operator lets it in by authorized_keys"
	case wire.StatusNoService:
		msg += "; check the service port asked for"
	case wire.StatusBusy, wire.StatusFull:
		msg += "; try again later"
	}
	return msg
}

// VersionError says that the server speaks no version of the protocol that we
// do.
type VersionError struct {
	Server   netip.AddrPort
	Versions []uint32 // that the server speaks
}

// Error names the versions of both ends.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%v speaks ROAM version %s, this client version %d: update the older of the two",
		e.Server, strings.Trim(fmt.Sprint(e.Versions), "[]"), wire.Version1)
}

// ClosedError is what the methods of a session return once it is over. It is
// net.ErrClosed to errors.Is.
type ClosedError struct {
	Remote bool // the server closed it
	Code   wire.CloseCode
	Reason string // may be empty
	// Cause is why the session ended without a CLOSE, or nil: ErrLost, or the
	// *RefusedError of the server that a session was to be opened with again.
	Cause error
}

// Error says who closed the session and why.
func (e *ClosedError) Error() string {
	msg := "the session is closed: "
	if e.Cause != nil {
		return msg + e.Cause.Error()
	}
	if e.Remote {
		msg = "the server closed the session: "
	}
	msg += e.Code.String()
	if e.Reason != "" && e.Reason != e.Code.String() {
		msg += ": " + e.Reason
	}
	return msg
}

// Orderly reports whether the server has ended the session because it was done with it.
func (e *ClosedError) Orderly() bool { return e.Remote && e.Cause == nil && e.Code == wire.CloseDone }

// Is makes errors.Is find net.ErrClosed.
func (e *ClosedError) Is(target error) bool { return target == net.ErrClosed }

// Unwrap returns Cause.
func (e *ClosedError) Unwrap() error { return e.Cause }

func addrList(addrs []netip.AddrPort) string {
	names := make([]string, len(addrs))
	for i, a := range addrs {
		names[i] = a.String()
	}
	return strings.Join(names, ", ")
}
