// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// Why a call failed.
var (
	// ErrConfig: New was given something that cannot work; the text says what.
	ErrConfig = errors.New("session: bad configuration")
	// ErrClosed: the session is over, see the EventClosed.
	ErrClosed = errors.New("session: closed")
	// ErrNotConfirmed: a server may not send before the client's first packet has
	// proved its address; a client cannot move before the server has answered.
	ErrNotConfirmed = errors.New("session: not confirmed yet")
	// ErrTooLarge: the peer accepts no datagram that large, or the path carries none.
	ErrTooLarge = errors.New("session: datagram is too large")
	// ErrSamePath: Move to the path that the session is on.
	ErrSamePath = errors.New("session: already on that path")
	// ErrNotClient: Move, Race, Resume and Rekey are the client's.
	ErrNotClient = errors.New("session: only a client does that")
	// ErrNotServer: SetAddrs and MoveLocal are the server's.
	ErrNotServer = errors.New("session: only a server does that")
	// ErrTooManyPaths: Race was given no path, more than 64, or more than
	// MaxRaceServers addresses of the server, with those that race already.
	ErrTooManyPaths = errors.New("session: no path to race, or too many")
)

// What the peer's NEW_ID may not do.
var (
	errIDGap      = errors.New("protocol error: NEW_ID leaves a gap")
	errIDDiffers  = errors.New("protocol error: NEW_ID differs from an earlier one of the same seq")
	errTooManyIDs = errors.New("protocol error: more than 8 live ids")
)

// What the zero values of Config mean.
const (
	DefaultIdleTimeout = 24 * time.Hour
	// DefaultMaxDatagram is what four parts carry on every path: at the smallest path MTU.
	DefaultMaxDatagram = wire.MaxParts * (wire.InitialMTU6 - wire.Overhead - wire.DatagramPartHeader)
)

const (
	// uselessIdle ends a session that never carried a DATAGRAM.
	uselessIdle = 60 * time.Second
	// halfOpen ends a server's session that nobody confirmed.
	halfOpen = 10 * time.Second
	// keyIdle is after what pause the AEADs and reassembly buffers are released.
	keyIdle = 10 * time.Second
)

// Session is one end of a session. Make it with New; see the package comment for
// how to drive it.
type Session struct {
	hot

	c2s, s2c [32]byte
	ids      IDs
	options  *options // unless there are none

	local               []*localID  // live, in order of seq
	remote              []*remoteID // held, in order of seq
	localTop, remoteTop uint32      // highest seq issued by us, by the peer
	partNumber          uint32
	pathGeneration      uint32

	departures []departure
	backoffs   *[]backoff // of few
	race       *race      // client

	rtt rtt
	mtu mtu

	parts *partials // unless there is none

	alarm *alarm // the last one

	started, lastSent Time
	idle              time.Duration
	retryIDs          Time // not before this: the last try failed

	farewell *farewell // once it is over

	sent    Traffic
	probed  uint64
	tallied *Moves              // once there was one
	counts  *[NumReasons]uint64 // of the other reasons, once there was one
}

// options are what most sessions are not configured with.
type options struct {
	random    io.Reader // nil: crypto/rand
	keepalive time.Duration
}

// hot is what Receive looks at for nearly every packet, side by side: of a session
// that has been quiet for a moment each cache line costs more than to decrypt a
// small packet.
type hot struct {
	state                        State
	role                         Role
	grease                       bool
	heardAny                     bool
	carried                      bool // a DATAGRAM, ever
	worn                         bool // and in this epoch: without, a rekey would protect nothing
	keysBuilt                    bool
	needIDs                      bool // the peer used an id: see topUp
	urgent                       bool // control frames are to go with this call
	maxDatagram, peerMaxDatagram uint16
	sentSeq                      uint32 // highest seq of the peer that carried a non-probing packet of ours

	// path is the validated path, rid the peer's id that we send on to it and
	// pathLocal the id of ours that the peer uses on it.
	path      Path
	rid       *remoteID
	pathLocal *localID

	newest       mark // the newest non-probing packet, if heardAny
	lastReceived Time
	received     Traffic
	delivered    uint64

	candidates []candidate
	localMove  *localMove // server
	owed       *owed      // mostly nil
	finder     *finder    // client
	epoch      epochs
	ctl        control
}

// New returns a session that starts at now. It sends nothing: a client's first
// PING comes from the first Tick, which is due at once. It fails with ErrConfig.
func New(cfg Config, now Time) (*Session, error) {
	switch {
	case cfg.Role != Client && cfg.Role != Server:
		return nil, fmt.Errorf("%w: Role is neither Client nor Server", ErrConfig)
	case len(cfg.Local) == 0 || len(cfg.Local) > maxLive:
		return nil, fmt.Errorf("%w: %d ids in Local, need 1 to %d", ErrConfig, len(cfg.Local), maxLive)
	case len(cfg.Remote) == 0 || len(cfg.Remote) > maxLive:
		return nil, fmt.Errorf("%w: %d ids in Remote, need 1 to %d", ErrConfig, len(cfg.Remote), maxLive)
	case cfg.IDs == nil:
		return nil, fmt.Errorf("%w: IDs is nil", ErrConfig)
	case !cfg.Path.Remote.IsValid():
		return nil, fmt.Errorf("%w: Path has no remote address", ErrConfig)
	}
	s := &Session{
		c2s: cfg.C2S, s2c: cfg.S2C, ids: cfg.IDs,
		idle: cfg.IdleTimeout, started: now, lastSent: now,
		hot: hot{
			role: cfg.Role, grease: !cfg.NoGrease, path: cfg.Path, lastReceived: now, epoch: epochs{begun: now},
			maxDatagram: cfg.MaxDatagram, peerMaxDatagram: cfg.PeerMaxDatagram,
		},
	}
	if cfg.Random != nil || cfg.Keepalive > 0 {
		s.options = &options{cfg.Random, cfg.Keepalive}
	}
	for i, id := range cfg.Local {
		if id.Seq != uint32(i) {
			return nil, fmt.Errorf("%w: Local[%d] has seq %d", ErrConfig, i, id.Seq)
		}
		// The handshake carried them: the peer has them.
		s.local = append(s.local, &localID{LocalID: id, heard: now})
		s.localTop = id.Seq
	}
	s.remote = make([]*remoteID, 0, len(cfg.Remote)) // as many as an idle one holds
	for i, id := range cfg.Remote {
		if id.Seq != uint32(i) {
			return nil, fmt.Errorf("%w: Remote[%d] has seq %d", ErrConfig, i, id.Seq)
		}
		s.remote = append(s.remote, &remoteID{RemoteID: id})
		s.remoteTop = id.Seq
	}
	s.rid, s.pathLocal = s.remote[0], s.local[0]
	s.rid.taken = true
	if err := s.readyToSend(s.rid); err != nil {
		return nil, fmt.Errorf("%w: AES-256-GCM or HKDF is not to be had: %w", ErrConfig, err)
	}
	s.keysBuilt = true
	if s.idle <= 0 {
		s.idle = DefaultIdleTimeout
	}
	if s.maxDatagram == 0 {
		s.maxDatagram = DefaultMaxDatagram
	}
	if s.peerMaxDatagram == 0 {
		s.peerMaxDatagram = DefaultMaxDatagram
	}
	s.mtu.reset(s.path)
	if s.role == Client {
		s.finder = &finder{lastDatagram: now}
	}
	s.learn(cfg.Path.Remote)
	for _, a := range cfg.Known {
		s.learn(a)
	}
	if s.role == Client {
		s.ctl.want, s.ctl.armed, s.ctl.next = true, true, now
	}
	return s, nil
}

// keepalive returns after how long without a packet of ours a PING goes out; 0: never.
func (s *Session) keepalive() time.Duration {
	if s.options == nil {
		return 0
	}
	return s.options.keepalive
}

// LocalIDs calls f with every live id that we receive on.
func (s *Session) LocalIDs(f func(wire.ID)) {
	for _, l := range s.local {
		f(l.ID)
	}
}

// State returns where in its life the session is.
func (s *Session) State() State { return s.state }

// Path returns the current path.
func (s *Session) Path() Path { return s.path }

// MaxDatagram returns the largest datagram, in bytes, that Send takes at the
// current path MTU.
func (s *Session) MaxDatagram() int {
	return min(int(s.peerMaxDatagram), wire.MaxParts*partRoom(s.mtu.size))
}

// count counts r. Most sessions see little but datagrams.
func (s *Session) count(r Reason) {
	switch r {
	case Delivered:
		s.delivered++
	case Probed:
		s.probed++
	default:
		if s.counts == nil {
			s.counts = new([NumReasons]uint64)
		}
		s.counts[r]++
	}
}

// tally returns the counts of moves. Most sessions never move.
func (s *Session) tally() *Moves {
	if s.tallied == nil {
		s.tallied = new(Moves)
	}
	return s.tallied
}

// Info returns what an operator may want to see.
func (s *Session) Info() Info {
	i := Info{
		Role: s.role, State: s.state, Path: s.path, NumCandidates: len(s.candidates),
		SRTT: s.rtt.srtt(), PTO: s.rtt.pto(), MTU: s.mtu.size,
		Started: s.started, LastReceived: s.lastReceived, LastSent: s.lastSent,
		IdleTimeout: s.idleTimeout(), LocalIDs: len(s.local), SpareLocalIDs: s.spareLocal(),
		LocalID: s.pathLocal.ID, LocalSeq: s.pathLocal.Seq,
		RemoteID: s.rid.ID, RemoteSeq: s.rid.Seq, SendCounter: s.rid.counter,
		Received: s.received, Sent: s.sent,
		Epoch: s.epoch.now, Rekeying: s.epoch.change != nil,
	}
	if s.counts != nil {
		i.Counts = *s.counts
	}
	i.Counts[Delivered], i.Counts[Probed] = s.delivered, s.probed
	i.ForwardingAlarms = i.Counts[Forwarded]
	if s.tallied != nil {
		i.Moves = *s.tallied
	}
	if s.finder != nil {
		i.Observed, i.Silent = s.finder.observed, s.finder.silence.told
	}
	if s.race != nil {
		i.Racing = len(s.race.runners)
	}
	for n := range s.candidates {
		i.Candidates[n] = s.candidates[n].path
	}
	for _, r := range s.remote {
		if !r.taken && s.usable(r) && r.Seq > s.unusedAbove() {
			i.SpareRemoteIDs++
		}
	}
	return i
}
