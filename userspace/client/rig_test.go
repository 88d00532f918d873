// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// rig is a server of a few lines over loopback: the handshake's and the
// session's other side, an echo behind it, and knobs for what may go wrong.
type rig struct {
	t         testing.TB
	conn      netio.Conn
	key       handshake.PrivateKey
	responder *handshake.Responder
	mac1      handshake.MAC1Key
	cookies   *handshake.Cookies
	start     time.Time
	wg        sync.WaitGroup
	network   Network // where its clients are; nil: this host

	mu       sync.Mutex // guards what follows
	inits    int        // that came with a good mac1
	retries  int
	answers  map[wire.ID][]byte // RESP by handshake id
	byID     map[wire.ID]*rigSession
	sessions []*rigSession
	issued   map[wire.ID]bool // ever, as far as the server can tell
	resets   int

	// Knobs.
	demandCookie bool
	dropInits    int // the first so many are lost
	refuse       wire.Status
	psk          handshake.PSK
	mute         bool // everything is lost
	echoTimes    int  // for each datagram; 1 unless set
	loss         func(toServer bool, pkt []byte) bool
}

type rigSession struct {
	*session.Session
	events []session.Event
	closed *session.Event
	client handshake.PublicKey
}

func newRig(t testing.TB, addr string, mend ...func(*rig)) *rig {
	t.Helper()
	conn, err := netio.ListenUDP(netio.Config{Addr: netip.MustParseAddrPort(addr)})
	if err != nil {
		t.Fatal(err)
	}
	return newRigOn(t, conn, mend...)
}

// newRigOn is newRig on a socket of the test's.
func newRigOn(t testing.TB, conn netio.Conn, mend ...func(*rig)) *rig {
	t.Helper()
	var err error
	r := &rig{
		t: t, conn: conn, key: handshake.NewPrivateKey(), start: time.Now(),
		cookies: handshake.NewCookies([32]byte{1}, 0),
		answers: map[wire.ID][]byte{}, byID: map[wire.ID]*rigSession{}, issued: map[wire.ID]bool{}, echoTimes: 1,
	}
	for _, f := range mend {
		f(r)
	}
	if r.responder, err = handshake.NewResponder(r.key, handshake.PSK{}, nil); err != nil {
		t.Fatal(err)
	}
	r.mac1 = handshake.NewMAC1Key(r.key.Public())
	r.wg.Go(r.read)
	ctx, stop := context.WithCancel(t.Context())
	r.wg.Go(func() { r.tick(ctx) })
	t.Cleanup(func() {
		stop()
		conn.Close()
		r.wg.Wait()
	})
	return r
}

func (r *rig) addr() netip.AddrPort { return r.conn.LocalAddr() }

func (r *rig) read() {
	msgs := make([]netio.Message, 16)
	for i := range msgs {
		msgs[i].Buf = make([]byte, wire.MaxPacket)
	}
	var out session.Output
	for {
		n, err := r.conn.ReadBatch(msgs)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				r.t.Errorf("rig: %v", err)
			}
			return
		}
		r.mu.Lock()
		for i := range msgs[:n] {
			r.packet(&msgs[i], &out)
		}
		r.mu.Unlock()
	}
}

func (r *rig) tick(ctx context.Context) {
	var out session.Output
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r.mu.Lock()
		for _, s := range r.sessions {
			s.Tick(time.Since(r.start), &out)
			r.flush(s, &out)
		}
		r.mu.Unlock()
	}
}

func (r *rig) packet(m *netio.Message, out *session.Output) {
	pkt := m.Data()
	if len(pkt) == 0 || r.mute || r.loss != nil && r.loss(true, pkt) {
		return
	}
	switch pkt[0] {
	case wire.TypeInit:
		r.init(m)
	case wire.TypeData:
		_, id, err := wire.ParseData(pkt)
		s := r.byID[id]
		if err != nil {
			return
		}
		if s == nil {
			if reset, ok := handshake.AppendReset(nil, rigResetKey, id, len(pkt)); ok && r.issued[id] {
				r.resets++
				r.send(m.Remote, m.Local, reset)
			}
			return
		}
		now := time.Since(r.start)
		s.Receive(now, session.Path{Remote: m.Remote, Local: m.Local}, pkt, out)
		for _, d := range slices.Clone(out.Datagrams) {
			for range r.echoTimes {
				_ = s.Send(now, d, out)
			}
		}
		r.flush(s, out)
	}
}

func (r *rig) init(m *netio.Message) {
	p, err := wire.ParseInit(m.Data())
	if err != nil || !r.mac1.Verify(p) {
		return
	}
	r.inits++
	if r.dropInits > 0 {
		r.dropInits--
		return
	}
	now := uint32(time.Now().Unix())
	if r.demandCookie && !r.cookies.Valid(now, p.Cookie(), p.HandshakeID(), m.Remote, m.Local) {
		r.retries++
		r.send(m.Remote, m.Local, wire.AppendRetry(nil, p.HandshakeID(), r.cookies.Make(now, p.HandshakeID(), m.Remote, m.Local)))
		return
	}
	resp := r.answers[p.HandshakeID()]
	if resp == nil {
		if resp = r.accept(p, m); resp == nil {
			return
		}
		r.answers[p.HandshakeID()] = resp
	}
	r.send(m.Remote, m.Local, resp)
}

func (r *rig) accept(p wire.Init, m *netio.Message) []byte {
	q, err := r.responder.Open(p)
	if err == nil {
		err = q.SetPSK(r.psk)
	}
	if err != nil {
		return nil
	}
	if r.refuse != wire.StatusAccepted {
		resp, err := q.Refuse(r.refuse, wire.CloseNotAuthorised, "because of the test")
		if err != nil {
			r.t.Error(err)
		}
		return resp
	}
	rs := &rigSession{client: q.Client}
	ids := &rigIDs{r, rs}
	id, reset, _ := ids.Issue()
	params := handshake.Params{IdleTimeout: time.Hour, MaxDatagram: 4000}
	resp, secrets, err := q.Accept(handshake.Acceptance{
		Params: params, NewID: handshake.NewID{ID: id, Reset: reset}, Observed: m.Remote,
	})
	if err != nil {
		r.t.Error(err)
		return nil
	}
	cfg := session.Config{
		Role: session.Server, C2S: secrets.C2S, S2C: secrets.S2C,
		Local: []session.LocalID{{ID: id, Reset: reset}},
		Path:  session.Path{Remote: m.Remote, Local: m.Local}, IDs: ids,
		PeerMaxDatagram: q.Params.MaxDatagram, MaxDatagram: params.MaxDatagram,
	}
	for _, n := range q.NewIDs {
		cfg.Remote = append(cfg.Remote, session.RemoteID(n))
	}
	if rs.Session, err = session.New(cfg, time.Since(r.start)); err != nil {
		r.t.Error(err)
		return nil
	}
	r.sessions = append(r.sessions, rs)
	return resp
}

func (r *rig) flush(s *rigSession, out *session.Output) {
	for _, p := range out.Packets {
		r.send(p.Path.Remote, p.Path.Local, p.Data)
	}
	for _, e := range out.Events {
		s.events = append(s.events, e)
		if e.Kind == session.EventClosed {
			s.closed = &e
		}
	}
	out.Reset()
}

func (r *rig) send(to, from netip.AddrPort, pkt []byte) {
	if r.loss == nil || !r.loss(false, pkt) {
		_, _ = r.conn.WriteBatch([]netio.Message{{Buf: pkt, Remote: to, Local: from}})
	}
}

// with runs f while the server stands still.
func (r *rig) with(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// closeAll closes every session from the server's side.
func (r *rig) closeAll(code wire.CloseCode, reason string) {
	var out session.Output
	r.with(func() {
		for _, s := range r.sessions {
			s.Close(time.Since(r.start), code, reason, &out)
			r.flush(s, &out)
		}
	})
}

// crash is kill -9 and a restart: no session is left. With its state secret the
// server can still tell its own ids.
func (r *rig) crash(secret bool) {
	r.with(func() {
		clear(r.byID)
		clear(r.answers)
		r.sessions = nil
		if !secret {
			clear(r.issued)
		}
	})
}

// rigResetKey outlives a crash.
var rigResetKey = [32]byte{1: 2}

// rigIDs are a server's ids: its table is a map.
type rigIDs struct {
	rig     *rig
	session *rigSession
}

func (d *rigIDs) Issue() (id wire.ID, reset wire.Token, err error) {
	id, _, err = randomIDs{}.Issue()
	d.rig.byID[id] = d.session
	d.rig.issued[id] = true
	reset = handshake.ResetToken(rigResetKey, id)
	return id, reset, err
}

func (d *rigIDs) Retire(id wire.ID) { delete(d.rig.byID, id) }

// testNetwork is a Network whose answers the test changes.
type testNetwork struct {
	HostNetwork
	sim     *simNet // where its sockets are; nil: this host
	mu      sync.Mutex
	four    netip.Addr // source for IPv4; zero: no route
	six     netip.Addr
	listen  error // of Listen
	changed func()
}

func newNetwork(four, six string) *testNetwork {
	n := &testNetwork{}
	n.set(four, six)
	return n
}

var errNoRoute = errors.New("network is unreachable (test)")

func (n *testNetwork) Source(remote netip.AddrPort) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	source := n.six
	if remote.Addr().Is4() {
		source = n.four
	}
	if !source.IsValid() {
		return source, errNoRoute
	}
	return source, nil
}

func (n *testNetwork) Ways(remote netip.AddrPort) []Way {
	addr, err := n.Source(remote)
	if err != nil {
		return nil
	}
	return []Way{{Addr: addr}}
}

func (n *testNetwork) Listen(way Way) (netio.Conn, error) {
	n.mu.Lock()
	err := n.listen
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if n.sim != nil {
		return (&simHost{net: n.sim}).Listen(way)
	}
	return n.HostNetwork.Listen(way)
}

func (n *testNetwork) Watch(ctx context.Context, changed func()) error {
	n.mu.Lock()
	n.changed = changed
	n.mu.Unlock()
	changed() // what changed before it was here to be told
	<-ctx.Done()
	return ctx.Err()
}

// set changes the routes and tells.
func (n *testNetwork) set(four, six string) {
	n.mu.Lock()
	n.four, n.six = netip.Addr{}, netip.Addr{}
	if four != "" {
		n.four = netip.MustParseAddr(four)
	}
	if six != "" {
		n.six = netip.MustParseAddr(six)
	}
	changed := n.changed
	n.mu.Unlock()
	if changed != nil {
		changed()
	}
}

func (n *testNetwork) setListen(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listen = err
}

// needsLoopbackNet skips where 127.0.0.2 is no address of the host.
func needsLoopbackNet(t testing.TB) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8 as addresses of its own")
	}
}

// events collects what OnEvent is told.
type events struct {
	mu  sync.Mutex
	all []Event
}

func (e *events) add(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

func (e *events) find(kind EventKind) (found []Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.all {
		if ev.Kind == kind {
			found = append(found, ev)
		}
	}
	return found
}

func (e *events) kinds() (kinds []EventKind) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.all {
		if ev.Kind != EventConfirmed && ev.Kind != EventObserved {
			kinds = append(kinds, ev.Kind)
		}
	}
	return kinds
}

// patience is what a busy machine may take for what an idle one does at once.
const patience = 30 * time.Second

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in %v it never came to this: %s", patience, what)
		}
	}
}

// dial opens a session to the rig, which the test's end closes.
func (r *rig) dial(t testing.TB, mend ...func(*Config)) *Session {
	t.Helper()
	s, err := Dial(t.Context(), r.config(mend...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(wire.CloseDone, "") })
	return s
}

func (r *rig) config(mend ...func(*Config)) Config {
	cfg := Config{Servers: []netip.AddrPort{r.addr()}, ServerKey: r.key.Public(), Service: 7, Network: r.network}
	for _, f := range mend {
		f(&cfg)
	}
	return cfg
}

// echo sends a datagram until it comes back.
func echo(t testing.TB, s *Session, text string) {
	t.Helper()
	p := make([]byte, 100)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err := s.SendDatagram([]byte(text)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		for {
			n, err := s.ReceiveDatagram(ctx, p)
			if err != nil {
				break
			}
			if string(p[:n]) == text {
				cancel()
				return
			}
		}
		cancel()
	}
	t.Fatalf("%q never came back", text)
}
