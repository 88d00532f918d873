// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/session"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// patience is what a busy machine may take for what an idle one does at once.
const patience = 30 * time.Second

// socket is a UDP socket that a test sends raw packets from.
type socket struct {
	t    testing.TB
	conn netio.Conn
	to   netip.AddrPort
}

// newSocket opens a socket at a loopback address ("127.0.0.1", "::1", ...).
func newSocket(t testing.TB, local string, srv *Server) *socket {
	t.Helper()
	addr := netip.MustParseAddr(local)
	conn, err := netio.ListenUDP(netio.Config{Addr: netip.AddrPortFrom(addr, 0), ReadBuffer: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	loopback := netip.MustParseAddr("127.0.0.1")
	if addr.Is6() {
		loopback = netip.IPv6Loopback()
	}
	return &socket{t, conn, netip.AddrPortFrom(loopback, srv.Addr().Port())}
}

func (s *socket) send(pkt []byte) {
	s.t.Helper()
	if _, err := s.conn.WriteBatch([]netio.Message{{Buf: pkt, Remote: s.to}}); err != nil {
		s.t.Errorf("send: %v", err)
	}
}

// read returns the next packet, or nil when none comes within d.
func (s *socket) read(d time.Duration) []byte {
	s.t.Helper()
	ms := []netio.Message{{Buf: make([]byte, wire.MaxPacket)}}
	if err := s.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		s.t.Fatal(err)
	}
	if n, err := s.conn.ReadBatch(ms); err != nil || n == 0 {
		return nil
	}
	return ms[0].Data()
}

// silence fails if a packet comes.
func (s *socket) silence(what string) {
	s.t.Helper()
	if pkt := s.read(50 * time.Millisecond); pkt != nil {
		s.t.Errorf("%s was answered by %x...", what, pkt[:min(len(pkt), 24)])
	}
}

// judge works off one packet, returns what became of it, and leaves its answers in
// r.snd.
func (r *reader) judge(now session.Time, m *netio.Message) Reason {
	in := []netio.Message{*m}
	if r.find(in); r.sessions[0] != nil {
		r.data(now, in, r.sessions[0])
	} else {
		r.tally.add(r.packet(now, m), r.counts)
	}
	r.tally.flush(r.counts)
	return r.tally.reason
}

// randomIDs issues a client's ids.
type randomIDs struct{}

func (randomIDs) Issue() (id wire.ID, reset wire.Token, err error) {
	rand.Read(id[:])
	rand.Read(reset[:])
	return id, reset, nil
}

func (randomIDs) Retire(wire.ID) {}

// newAttempt makes an INIT to the server; change alters its configuration.
func newAttempt(t testing.TB, srv *Server, change func(*handshake.ClientConfig)) (*handshake.Initiator, handshake.ClientConfig) {
	t.Helper()
	cfg := handshake.ClientConfig{Server: srv.PublicKey(), Service: 7, Params: handshake.Params{IdleTimeout: time.Hour, MaxDatagram: 4000}}
	for i := range cfg.NewIDs {
		id, reset, _ := randomIDs{}.Issue()
		cfg.NewIDs[i] = handshake.NewID{Seq: uint32(i), ID: id, Reset: reset}
	}
	if change != nil {
		change(&cfg)
	}
	init, err := handshake.NewInitiator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return init, cfg
}

// exchange sends INIT, answers RETRY and returns the reply, or fails.
func exchange(t testing.TB, s *socket, init *handshake.Initiator) (reply *handshake.Reply, retries int) {
	t.Helper()
	for range 4 {
		s.send(init.Packet())
		pkt := s.read(patience)
		if pkt == nil {
			break
		}
		if hid, cookie, err := wire.ParseRetry(pkt); err == nil {
			if hid != init.HandshakeID() {
				t.Fatalf("RETRY for attempt %v, not ours", hid)
			}
			retries++
			init.SetCookie(cookie)
			continue
		}
		reply, err := init.Finish(pkt)
		if err != nil {
			t.Fatalf("RESP does not open: %v", err)
		}
		return reply, retries
	}
	t.Fatalf("no RESP (%d RETRYs)", retries)
	return nil, 0
}

// client is a client's end of a session over real sockets. One goroutine reads
// each socket and another one ticks; mu guards the rest.
type client struct {
	t     testing.TB
	start time.Time

	mu      sync.Mutex
	sockets []*socket
	state   *session.Session
	events  []session.Event
	got     chan []byte
	sent    [][]byte // every packet, for attackers who listen
	block   bool     // they are made and not sent
	deaf    int      // so many packets are lost on their way to it
	closed  bool
}

// dial opens a session from a loopback address.
func dial(t testing.TB, srv *Server, local string, change func(*handshake.ClientConfig)) *client {
	t.Helper()
	init, cfg := newAttempt(t, srv, change)
	s := newSocket(t, local, srv)
	reply, _ := exchange(t, s, init)
	if reply.Status != wire.StatusAccepted {
		t.Fatalf("refused: %v: %s", reply.Status, reply.Reason)
	}
	return newClient(t, s, cfg, reply)
}

func newClient(t testing.TB, s *socket, cfg handshake.ClientConfig, reply *handshake.Reply) *client {
	t.Helper()
	return startClient(t, s, cfg, reply, false)
}

// newBlockedClient is a client whose packets are held back from the first one on.
func newBlockedClient(t testing.TB, s *socket, cfg handshake.ClientConfig, reply *handshake.Reply) *client {
	t.Helper()
	return startClient(t, s, cfg, reply, true)
}

func startClient(t testing.TB, s *socket, cfg handshake.ClientConfig, reply *handshake.Reply, block bool) *client {
	t.Helper()
	c := &client{t: t, start: time.Now(), sockets: []*socket{s}, got: make(chan []byte, 10000), block: block}
	sc := session.Config{
		Role: session.Client, C2S: reply.Secrets.C2S, S2C: reply.Secrets.S2C,
		Path: session.Path{Remote: s.to}, IDs: randomIDs{}, MaxDatagram: cfg.Params.MaxDatagram,
		PeerMaxDatagram: reply.Params.MaxDatagram, IdleTimeout: cfg.Params.IdleTimeout,
	}
	for _, n := range cfg.NewIDs {
		sc.Local = append(sc.Local, session.LocalID{Seq: n.Seq, ID: n.ID, Reset: n.Reset})
	}
	for _, n := range reply.NewIDs {
		sc.Remote = append(sc.Remote, session.RemoteID{Seq: n.Seq, ID: n.ID, Reset: n.Reset})
	}
	var err error
	if c.state, err = session.New(sc, 0); err != nil {
		t.Fatal(err)
	}
	s.conn.SetReadDeadline(time.Time{}) // left by the handshake
	var wg sync.WaitGroup
	wg.Go(c.tick)
	wg.Go(func() { c.readFrom(0) })
	t.Cleanup(func() {
		c.mu.Lock()
		c.closed = true
		for _, s := range c.sockets {
			s.conn.Close()
		}
		c.mu.Unlock()
		wg.Wait()
	})
	return c
}

func (c *client) tick() {
	for {
		c.mu.Lock()
		closed := c.closed
		var out session.Output
		if at, ok := c.state.Deadline(); ok && at <= c.now() {
			c.state.Tick(c.now(), &out)
		}
		c.settle(&out)
		c.mu.Unlock()
		if closed {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (c *client) now() session.Time { return time.Since(c.start) }

// readFrom reads socket i until it is closed.
func (c *client) readFrom(i int) {
	c.mu.Lock()
	conn := c.sockets[i].conn
	c.mu.Unlock()
	ms := []netio.Message{{Buf: make([]byte, wire.MaxPacket)}}
	for {
		if _, err := conn.ReadBatch(ms); err != nil {
			return
		}
		c.mu.Lock()
		if c.deaf > 0 {
			c.deaf--
			c.mu.Unlock()
			continue
		}
		var out session.Output
		c.state.Receive(c.now(), session.Path{Socket: uint32(i), Remote: ms[0].Remote}, ms[0].Data(), &out)
		for _, d := range out.Datagrams {
			c.got <- append([]byte(nil), d...)
		}
		c.settle(&out)
		c.mu.Unlock()
	}
}

func (c *client) settle(out *session.Output) {
	c.events = append(c.events, out.Events...)
	for _, p := range out.Packets {
		pkt := append([]byte(nil), p.Data...)
		c.sent = append(c.sent, pkt)
		if c.closed || c.block {
			continue
		}
		_, _ = c.sockets[p.Path.Socket].conn.WriteBatch([]netio.Message{{Buf: pkt, Remote: p.Path.Remote}})
	}
}

func (c *client) do(f func(now session.Time, out *session.Output) error) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var out session.Output
	if err := f(c.now(), &out); err != nil {
		c.t.Errorf("client: %v", err)
	}
	c.settle(&out)
}

func (c *client) sendDatagram(p string) {
	c.t.Helper()
	c.do(func(now session.Time, out *session.Output) error { return c.state.Send(now, []byte(p), out) })
}

// addSocket opens one more socket and reads it; it returns its number.
func (c *client) addSocket(local string, srv *Server) int {
	s := newSocket(c.t, local, srv)
	c.mu.Lock()
	i := len(c.sockets)
	c.sockets = append(c.sockets, s)
	c.mu.Unlock()
	go c.readFrom(i)
	return i
}

// move sends from socket i from now on, by the next id.
func (c *client) move(i int) {
	c.t.Helper()
	eventually(c.t, "the client has heard its server", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.state.State() == session.StateOpen
	})
	c.do(func(now session.Time, out *session.Output) error {
		return c.state.Move(now, session.Path{Socket: uint32(i), Remote: c.sockets[i].to}, out)
	})
}

// rebind makes everything leave from and come to another port without the
// client's knowledge, as after a NAT has given its port away.
func (c *client) rebind(local string, srv *Server) {
	s := newSocket(c.t, local, srv)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sockets[0].conn.Close()
	c.sockets[0] = s
	go c.readFrom(0)
}

// lastPacket is the last DATA packet that the client sent.
func (c *client) lastPacket() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]byte(nil), c.sent[len(c.sent)-1]...)
}

func (c *client) receive() string {
	c.t.Helper()
	select {
	case p := <-c.got:
		return string(p)
	case <-time.After(patience):
		c.t.Fatal("no datagram came to the client")
		return ""
	}
}

// closedWith waits for the end of the session and returns the event.
func (c *client) closedWith() session.Event {
	c.t.Helper()
	var e session.Event
	eventually(c.t, "the client's session is closed", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, e = range c.events {
			if e.Kind == session.EventClosed {
				return true
			}
		}
		return false
	})
	return e
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// listen starts a server on loopback; change alters its configuration.
func listen(t testing.TB, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{
		Listen: netip.MustParseAddrPort("[::]:0"), Static: handshake.NewPrivateKey(),
		Workers: 2, TableSlots: 4096,
	}
	if change != nil {
		change(&cfg)
	}
	srv, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if n := srv.table.Len(); n != 0 {
			t.Errorf("a closed server leaves %d slots taken", n)
		}
	})
	return srv
}

func accept(t testing.TB, srv *Server) *Session {
	t.Helper()
	ctx, cancel := withTimeout(t)
	defer cancel()
	s, err := srv.Accept(ctx)
	if err != nil {
		t.Fatalf("Accept: %v", err)
	}
	return s
}

func receive(t testing.TB, s *Session) string {
	t.Helper()
	ctx, cancel := withTimeout(t)
	defer cancel()
	p := make([]byte, 10000)
	n, err := s.ReceiveDatagram(ctx, p)
	if err != nil {
		t.Fatalf("ReceiveDatagram: %v", err)
	}
	return string(p[:n])
}

// count waits until a reason was counted n times.
func count(t testing.TB, srv *Server, r Reason, n uint64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%v was counted %d times", r, n), func() bool { return srv.Stats().Packets[r] >= n })
	if got := srv.Stats().Packets[r]; got != n {
		t.Errorf("%v: counted %d, want %d", r, got, n)
	}
}
