// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"sync"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// handshake judges an INIT by everything that is cheap: until a handshake worker
// takes it up, it has cost two SipHashes and left nothing but what its limits count.
func (r *reader) handshake(now session.Time, m *netio.Message) Reason {
	srv := r.srv
	pkt, err := wire.ParseInit(m.Data())
	if err != nil {
		hid, ok := wire.UnknownVersion(m.Data())
		if !ok {
			return InitMalformed
		}
		if !srv.versions.take(now) {
			return VersionLimit
		}
		r.answer(m, func(b []byte) []byte { return wire.AppendVersionsPacket(b, hid, ourVersions) })
		return VersionsSent
	}
	identity := srv.addressed(pkt)
	if identity == nil {
		return MAC1
	}
	if srv.ctx.Err() != nil {
		return HandshakeBusy // closing: nobody takes it up any more
	}
	hid, ephemeral := pkt.HandshakeID(), pkt.Ephemeral()
	unix := srv.clock.unix(now)
	proven := srv.cookies.Valid(unix, pkt.Cookie(), hid, m.Remote, m.Local)
	if !proven && srv.demandsCookie(now) {
		return r.retry(unix, hid, m)
	}

	key := attemptKey{hid, m.Remote}
	resp, reason := srv.attempts.recall(now, key, ephemeral)
	if resp != nil {
		r.snd.msgs = append(r.snd.msgs, netio.Message{Buf: resp, Remote: m.Remote, Local: m.Local})
	}
	if reason != 0 {
		return reason
	}
	src := source{makePrefix(m.Remote.Addr(), handshakePrefixBits), proven}
	a, reason := srv.attempts.begin(now, key, ephemeral, src)
	switch {
	case (reason == PrefixLimit || reason == HalfOpenLimit) && !proven && srv.cfg.Cookie != CookieNever:
		return r.retry(unix, hid, m)
	case a == nil:
		return reason
	}

	job := initJobs.Get().(*initJob)
	job.attempt, job.identity, job.conn, job.worker = a, identity, r.conn, r.worker
	job.remote, job.local = m.Remote, m.Local
	copy(job.packet[:], pkt)
	select {
	case srv.jobs <- job:
		return notCounted
	default:
		srv.attempts.forget(a)
		initJobs.Put(job)
		return HandshakeBusy
	}
}

// ourVersions is what VERSIONS lists.
var ourVersions = []uint32{wire.Version1}

// demandsCookie says whether an INIT without a valid cookie must bring one.
func (srv *Server) demandsCookie(now session.Time) bool {
	switch srv.cfg.Cookie {
	case CookieAlways:
		return true
	case CookieNever:
		return false
	}
	return !srv.uncookied.take(now)
}

func (r *reader) retry(unix uint32, hid wire.ID, m *netio.Message) Reason {
	cookie := r.srv.cookies.Make(unix, hid, m.Remote, m.Local)
	r.answer(m, func(b []byte) []byte { return wire.AppendRetry(b, hid, cookie) })
	return RetrySent
}

// answer sends a packet of at most maxAnswer bytes back where m came from.
func (r *reader) answer(m *netio.Message, appendPacket func([]byte) []byte) {
	from := len(r.answers)
	r.answers = appendPacket(r.answers)
	r.snd.msgs = append(r.snd.msgs, netio.Message{Buf: r.answers[from:], Remote: m.Remote, Local: m.Local})
}

// maxJobs bounds the INITs that wait for a handshake worker: at 0.2 ms each,
// what two cores do in 50 ms.
const maxJobs = 512

// initJob is an INIT on its way to a handshake worker. A handshake takes as
// long as a hundred packets of DATA, so readers leave it to others.
type initJob struct {
	attempt       *attempt
	identity      *identity
	conn          netio.Conn
	worker        *worker // whose socket it came to
	remote, local netip.AddrPort
	packet        [wire.InitLen]byte
}

var initJobs = sync.Pool{New: func() any { return new(initJob) }}
