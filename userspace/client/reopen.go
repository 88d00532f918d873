// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

const (
	// maxTargets of an attempt: each costs an INIT, and the server a handshake.
	maxTargets = 16
	// holdTime is what a session that was silent gets to show that it lives after
	// all, once the server has accepted another one: the same network that brought
	// that answer is back for it, too.
	holdTime = 250 * time.Millisecond
)

// backoff spaces tries out: 1 s, doubling to a minute, and up to a quarter more,
// so that the clients of a server that was away do not come back in step.
type backoff struct{ last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, time.Second), time.Minute)
	return b.last + rand.N(b.last/4)
}

func (b *backoff) reset() { b.last = 0 }

// reopener opens another session in the place of one that is lost, or that no way
// leads to. An old session that may live gets its chance until the very end:
// before each INIT it asks on the same path, and it is kept if it is heard.
type reopener struct {
	dialer *dialer // of the attempt that runs, or nil
	tried  []pair  // by it
	held   *answer // a new session, while the old one may still be heard
	hold   *time.Timer
	retry  *time.Timer // when the next attempt is due
	waits  bool        // retry runs
	sooner bool        // and a change of the network has shortened it
	pause  backoff
}

func (r *reopener) attemptDue() <-chan time.Time {
	if r.dialer == nil {
		return nil
	}
	return r.dialer.timer.C
}

func (r *reopener) attemptPackets() <-chan inbound {
	if r.dialer == nil {
		return nil
	}
	return r.dialer.packets
}

// reopenSilent acts on a race that nobody answered.
func (r *roamer) reopenSilent() {
	switch {
	case r.dialer != nil || r.held != nil || r.waits:
	case r.cfg.NoReopen:
		r.wait()
	default:
		r.announce(ErrSilent)
		r.attemptOpen(nil)
	}
}

// reopenLost acts on the end of the state machine.
func (r *roamer) reopenLost(why error, n news) {
	r.announce(why)
	var closed *ClosedError
	switch {
	case r.held != nil:
		r.adopt()
	case errors.Is(why, ErrLost):
		// The server has just spoken from there, so that is where it is.
		at := pair{n.way, n.at.Remote}
		if r.dialer != nil {
			r.dialer.hurry(at.way, at.remote)
			return
		}
		r.attemptOpen(&at)
	case r.dialer != nil:
	case errors.As(why, &closed) && closed.Remote:
		r.wait() // it is shutting down
	default:
		r.attemptOpen(nil)
	}
}

// announce tells once that another session is being opened.
func (r *roamer) announce(why error) {
	r.mu.Lock()
	told := r.reopening
	r.reopening = true
	from := r.endpoints(r.machine.Path())
	r.mu.Unlock()
	if !told || errors.Is(why, ErrLost) {
		r.tell(Event{Kind: EventReopening, From: from, Err: why})
	}
}

// wait puts the next try off.
func (r *roamer) wait() {
	r.waits, r.sooner = true, false
	r.retry.Reset(r.pause.next())
}

// again is the next try.
func (r *roamer) again() {
	r.waits = false
	if r.cfg.NoReopen {
		r.rescue()
		return
	}
	r.attemptOpen(nil)
}

// networkChanged begins anew if there are paths that were not tried. A change that
// brings none ends a long pause, though not the first second of it: changes may
// come in swarms.
func (r *roamer) networkChanged() {
	if r.dialer == nil && !r.waits {
		return
	}
	fresh := slices.ContainsFunc(r.targets(nil), func(p pair) bool { return !slices.Contains(r.tried, p) })
	switch {
	case fresh && !r.cfg.NoReopen:
		r.pause.reset()
		r.attemptOpen(nil)
	case r.waits && !r.sooner:
		r.sooner = true
		r.pause.reset()
		r.retry.Reset(r.pause.next())
	}
}

// targets returns the paths for an attempt, best first.
func (r *roamer) targets(best *pair) []pair {
	all := r.pairs()
	if best != nil {
		all = slices.DeleteFunc(all, func(p pair) bool { return p == *best })
		all = slices.Insert(all, 0, *best)
	}
	return all[:min(len(all), maxTargets)]
}

// attemptOpen begins an attempt to open a session.
func (r *roamer) attemptOpen(best *pair) {
	r.giveUp()
	r.resolve()
	r.tried = r.targets(best)
	d, err := newDialer(r.cfg)
	if err != nil {
		r.failed(err)
		return
	}
	err = errors.New("there is no network")
	for _, p := range r.tried {
		if addErr := d.add(p.way, p.remote); addErr != nil {
			err = addErr
		}
	}
	if len(d.attempt.targets) == 0 {
		d.stop(nil)
		r.failed(fmt.Errorf("%w: %w", ErrNoRoute, err))
		return
	}
	d.attempt.plan = eagerTurns(len(d.attempt.targets))
	r.dialer = d
	d.listen()
}

// giveUp ends the attempt that runs and forgets what it has found.
func (r *reopener) giveUp() {
	r.waits = false
	r.retry.Stop()
	r.hold.Stop()
	if r.dialer != nil {
		r.dialer.stop(nil)
		r.dialer = nil
	}
	if r.held != nil {
		r.held.socket.conn.Close()
		r.held = nil
	}
}

// calm ends the search for a server that has been heard.
func (r *roamer) calm() {
	r.giveUp()
	r.pause.reset()
	r.mu.Lock()
	r.reopening = false
	r.mu.Unlock()
}

// failed puts the next attempt off.
func (r *roamer) failed(err error) {
	var refused *RefusedError
	if errors.As(err, &refused) && (refused.Status == wire.StatusNotAuthorised || refused.Status == wire.StatusNoService) {
		r.mu.Lock()
		r.conclude(&ClosedError{Remote: true, Code: refused.Code, Cause: refused}, &r.w)
		r.gather(&r.w)
		r.mu.Unlock()
		r.carryOut(&r.w)
		r.shutdown()
		return
	}
	r.mu.Lock()
	from := r.endpoints(r.machine.Path())
	r.mu.Unlock()
	r.tell(Event{Kind: EventReopenFailed, From: from, Err: err})
	r.wait()
}

func (r *roamer) tickAttempt() {
	d := r.dialer
	if t := d.attempt.dueNow(time.Since(d.start)); t != nil && r.inState(func() bool { return r.lost == nil }) {
		r.probes = false
		r.race([]pair{{d.sockets[t.socket].way, t.remote}}, false)
	}
	if err := d.tick(); err != nil {
		r.giveUp()
		r.failed(err)
	}
}

func (r *roamer) receiveAttempt(in inbound) {
	d := r.dialer
	found, err := d.receive(in)
	switch {
	case err != nil:
		r.giveUp()
		r.failed(err)
	case found != nil:
		d.stop(found.socket)
		r.dialer, r.held = nil, found
		if r.inState(func() bool { return r.lost != nil }) {
			r.adopt()
			return
		}
		r.race([]pair{{found.socket.way, found.remote}}, false)
		r.hold.Reset(holdTime)
	}
}

// adopt puts the new session in the place of the old one.
func (r *roamer) adopt() {
	found := r.held
	r.held = nil
	r.hold.Stop()
	r.mu.Lock()
	if r.over || r.closing {
		r.mu.Unlock()
		found.socket.conn.Close()
		return
	}
	found.socket.number = r.next // the dialer's own number until now
	r.next++
	machine, err := session.New(sessionConfig(r.cfg, r.configured, *found), r.now())
	if err != nil {
		r.mu.Unlock()
		found.socket.conn.Close()
		r.failed(err)
		return
	}
	from := r.endpoints(r.machine.Path())
	path := session.Path{Socket: found.socket.number, Remote: found.remote}
	r.farewell(path, found.socket)
	for _, socket := range r.sockets {
		r.w.closes = append(r.w.closes, socket.conn)
	}
	clear(r.sockets)
	r.sockets[path.Socket] = found.socket
	r.machine = machine
	r.health = health{generation: r.generation + 1}
	notify(r.mended)
	r.observed = found.reply.Observed
	r.arrive()
	r.armed = never
	r.w.events = append(r.w.events, Event{
		Kind: EventReopened, From: from, To: r.endpoints(path), At: time.Now(), Generation: r.generation, id: found.id(),
	})
	r.group.Go(func() { r.readLoop(found.socket) })
	r.gather(&r.w)
	r.mu.Unlock()
	r.carryOut(&r.w)
	r.pause.reset()
	r.confirm.Reset(confirmTime)
	r.grace.Stop()
}

// farewell lets an old session that may live tell the server, on the path where
// that has just been heard, that it is over: else the server keeps it until its
// idle timeout. One packet, as nobody is left to repeat it. mu is held.
func (r *roamer) farewell(path session.Path, socket *socket) {
	if r.lost != nil || r.machine.State() != session.StateOpen {
		return
	}
	var out session.Output
	if r.machine.Move(r.now(), path, &out) != nil {
		return
	}
	r.machine.Close(r.now(), wire.CloseDone, "replaced by a new session", &out)
	for _, p := range out.Packets {
		if p.Path.Same(path) {
			r.w.msgs = append(r.w.msgs, netio.Message{Buf: p.Data, Remote: p.Path.Remote})
			r.w.conns = append(r.w.conns, socket.conn)
		}
	}
}
