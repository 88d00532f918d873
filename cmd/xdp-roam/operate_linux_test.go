// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// A draining edge refuses new sessions, serves the live one, and ends with it.
func TestDrainCommand(t *testing.T) {
	b := newLabBench(t)
	edge, client, program := b.startEcho("--mode", "none")
	drain := b.start(b.edge, "drain")
	drain.waitFor("draining: 1 sessions are left")
	if s := items[control.Status](b, "status")[0]; !s.Draining || !s.DrainDeadline.IsZero() {
		t.Errorf("status %+v", s)
	}
	late := b.start(b.client, "connect", edgeAddr.String(), "--server-key", b.serverKey.Public().String(), "--identity", b.path("client.key"), "--udp", "-L", "5008:7")
	if code := late.exit(); code != exitFailure || !strings.Contains(late.said(), "takes no new sessions") {
		t.Errorf("a new client ended with %d:\n%s", code, late.said())
	}
	ask(t, program, "still")
	client.stop(syscall.SIGTERM)
	if code := drain.exit(); code != exitOK || !strings.Contains(drain.stdout.String(), "drained") {
		t.Errorf("drain ended with %d: %s%s", code, drain.stdout.String(), drain.said())
	}
	if code := edge.exit(); code != exitOK {
		t.Errorf("run ended with %d:\n%s", code, edge.said())
	}
	b.nothingLeft()
}

// At the deadline the sessions that are left are closed, and their clients told.
func TestDrainDeadline(t *testing.T) {
	b := newLabBench(t)
	edge := b.startEdge("--mode", "none")
	client := b.startClient("-L", "5007:7")
	ask(t, b.program(5007), "before")
	drain := b.start(b.edge, "drain", "--timeout", "1h")
	drain.waitFor("draining: 1 sessions are left")
	drain.stop(syscall.SIGKILL) // the edge drains on
	if s := items[control.Status](b, "status")[0]; !s.Draining || time.Until(s.DrainDeadline) < time.Minute {
		t.Errorf("status %+v", s)
	}
	drain = b.start(b.edge, "drain", "--timeout", "300ms")
	if code := drain.exit(); code != exitOK {
		t.Errorf("drain ended with %d: %s", code, drain.said())
	}
	if code := edge.exit(); code != exitOK || !strings.Contains(edge.said(), "clients_not_reached=0") {
		t.Errorf("run ended with %d:\n%s", code, edge.said())
	}
	client.waitFor("shutting down")
	b.nothingLeft()
}

// rawClient speaks the handshake by hand, from the client's namespace.
type rawClient struct {
	t    *testing.T
	conn *net.UDPConn
}

func (b *labBench) rawClient() *rawClient {
	b.t.Helper()
	c := &rawClient{t: b.t}
	err := b.client.Do(func() (err error) {
		c.conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(edgeAddr, wire.DefaultPort)))
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.conn.Close() })
	return c
}

// exchange sends a packet until accept takes the answer.
func (c *rawClient) exchange(what string, pkt []byte, accept func([]byte) bool) {
	c.t.Helper()
	buffer := make([]byte, wire.MaxPacket)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := c.conn.Write(pkt); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			c.t.Fatal(err)
		}
		c.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		for {
			n, err := c.conn.Read(buffer)
			if err != nil {
				break
			}
			if accept(buffer[:n]) {
				return
			}
		}
	}
	c.t.Fatalf("no answer to %s", what)
}

// open opens a session and returns the id to send on with its reset token.
func (b *labBench) open(c *rawClient, server handshake.PublicKey) handshake.NewID {
	b.t.Helper()
	cfg := handshake.ClientConfig{Static: b.clientKey, Server: server, Service: 7, Params: handshake.Params{MaxDatagram: 1000, IdleTimeout: time.Hour}}
	for i := range cfg.NewIDs {
		cfg.NewIDs[i].Seq = uint32(i)
		rand.Read(cfg.NewIDs[i].ID[:])
	}
	init, err := handshake.NewInitiator(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	var reply *handshake.Reply
	c.exchange("INIT", init.Packet(), func(pkt []byte) bool {
		if _, cookie, err := wire.ParseRetry(pkt); err == nil {
			init.SetCookie(cookie)
			return false
		}
		reply, err = init.Finish(pkt)
		return err == nil
	})
	if reply.Status != wire.StatusAccepted {
		b.t.Fatalf("refused: %v %s", reply.Status, reply.Reason)
	}
	return reply.NewIDs[0]
}

func (c *rawClient) expectReset(id handshake.NewID) {
	c.t.Helper()
	pkt := make([]byte, 100)
	wire.PutDataHeader(pkt, 5, id.ID)
	c.exchange("DATA on an id of the process before", pkt, func(answer []byte) bool {
		return len(answer) >= wire.MinData && len(answer) <= handshake.MaxReset && answer[0] == wire.TypeData && bytes.HasSuffix(answer, id.Reset[:])
	})
}

// Daemon killed with -9, under load: the restarted daemon answers the first packet
// on an id of the process before with its reset, and the client is back by itself.
func TestThreatDaemonKilled(t *testing.T) {
	for _, mode := range [][]string{{"--mode", "afxdp", "--interface", "edge0"}, {"--mode", "xdp", "--interface", "edge0"}, {"--mode", "none"}} {
		t.Run(mode[1], func(t *testing.T) {
			b := newLabBench(t)
			edge, _, program := b.startEcho(mode...)
			load := make(chan struct{})
			go func() {
				defer close(load)
				for range 2000 {
					if _, err := program.Write(make([]byte, 500)); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
						return
					}
					time.Sleep(500 * time.Microsecond)
				}
			}()
			raw := b.rawClient()
			id := b.open(raw, b.serverKey.Public())
			edge.stop(syscall.SIGKILL)
			b.startEdge(mode...)
			raw.expectReset(id)
			<-load
			ask(t, program, "after")
		})
	}
}

// The state secret is rotated under a live session; ids of both generations are
// reset after a crash.
func TestStateRotateCommand(t *testing.T) {
	b := newLabBench(t)
	edge, _, program := b.startEcho("--mode", "xdp", "--interface", "edge0")
	raw := b.rawClient()
	old := b.open(raw, b.serverKey.Public())
	list := items[control.Generation](b, "state", "rotate")
	if len(list) != 2 || !list[1].Newest || list[0].Newest || list[0].LiveIDs == 0 {
		t.Errorf("generations %+v", list)
	}
	young := b.open(b.rawClient(), b.serverKey.Public())
	ask(t, program, "after")
	edge.stop(syscall.SIGKILL)
	b.startEdge("--mode", "xdp", "--interface", "edge0")
	raw.expectReset(old)
	raw.expectReset(young)
}

// While the server's key is rotated, clients with either are served.
func TestPreviousKeyFile(t *testing.T) {
	b := newLabBench(t)
	old := b.serverKey
	b.write("old.key", old)
	b.serverKey = handshake.NewPrivateKey()
	b.write("server.key", b.serverKey)
	b.startEdge("--mode", "xdp", "--interface", "edge0", "--previous-key-file", b.path("old.key"))
	s := items[control.Status](b, "status")[0]
	if s.PublicKey != b.serverKey.Public().String() || s.PreviousPublicKey != old.Public().String() {
		t.Errorf("status %+v", s)
	}
	b.open(b.rawClient(), old.Public())
	b.open(b.rawClient(), b.serverKey.Public())
	var served uint64
	for _, c := range items[control.Counter](b, "stats") {
		if c.Reason == "handshakes_previous_key" {
			served = c.Value
		}
	}
	if served != 1 {
		t.Errorf("%d handshakes by the old key are counted", served)
	}
}

// The server's address goes; its session goes on from another one.
func TestServerAddressGoes(t *testing.T) {
	b := newLabBench(t)
	// Else the kernel takes the second address of the network away with the first.
	if err := b.edge.Sysctl("ipv4/conf/all/promote_secondaries", "1"); err != nil {
		t.Fatal(err)
	}
	second := netip.PrefixFrom(edgeAddr.Next().Next().Next(), 24)
	if err := b.edge.AddAddr("edge0", second); err != nil {
		t.Fatal(err)
	}
	edge, _, program := b.startEcho("--mode", "xdp", "--interface", "edge0", "--address", edgeAddr.String(), "--address", second.Addr().String())
	if err := b.edge.DelAddr("edge0", netip.PrefixFrom(edgeAddr, 24)); err != nil {
		t.Fatal(err)
	}
	edge.waitFor("address_lost")
	ask(t, program, "after")
	list := items[control.Session](b, "session", "list")
	if len(list) != 1 || list[0].Local.Addr() != second.Addr() {
		t.Errorf("sessions %+v", list)
	}
}

// The only address of the server goes, and a while later the host gets another, of
// which nobody has told the client: its session goes on there all the same.
func TestServerIsRenumbered(t *testing.T) {
	b := newLabBench(t)
	edge, _, program := b.startEcho("--mode", "xdp", "--interface", "edge0")
	if err := b.edge.DelAddr("edge0", netip.PrefixFrom(edgeAddr, 24)); err != nil {
		t.Fatal(err)
	}
	edge.waitFor("address_lost") // and there is no way to the client
	other := edgeAddr.Next().Next().Next()
	if err := b.edge.AddAddr("edge0", netip.PrefixFrom(other, 24)); err != nil {
		t.Fatal(err)
	}
	until(t, "the session goes on at the new address", func() bool {
		list := items[control.Session](b, "session", "list")
		return len(list) == 1 && list[0].Local.Addr() == other
	})
	ask(t, program, "after")
}

func TestStateDirectoryIsPrivate(t *testing.T) {
	b := newLabBench(t)
	b.startEdge("--mode", "none")
	b.run("state", "rotate")
	info, err := os.Stat(b.path("state/" + handshake.StateSecretFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file with the state secrets: %v, %v", info.Mode(), err)
	}
}
