// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/internal/testutil"
	"github.com/xdp-roam/xdp-roam/loader"
	"github.com/xdp-roam/xdp-roam/userspace/afxdp"
	"github.com/xdp-roam/xdp-roam/userspace/client"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/inbox"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

var duration = flag.Duration("load.time", 4*time.Second, "how long the load lasts in each mode")

const (
	// moveEvery is how often each client moves: by turns its NAT forgets it, and it
	// comes to another network.
	moveEvery = time.Second
	batch     = 64 // datagrams sent at a time
	// settleTime is the time for what is on its way to arrive, on a machine that is busy with
	// other things.
	settleTime = 30 * time.Second
)

// sessions differ in their datagrams' size and in how many are sent at a time: what
// is alone leaves by another way than trains do, behind AF_XDP.
var sessions = []struct{ size, batch int }{{64, batch}, {300, 1}, {1100, batch}}

func TestLoad(t *testing.T) {
	testutil.RequirePrivileged(t)
	for _, mode := range []loader.Mode{loader.ModeAFXDP, loader.ModeXDP, loader.ModeSocket} {
		t.Run(string(mode), func(t *testing.T) {
			if os.Getenv(edgeEnv) == "" {
				inNamespace(t)
				return
			}
			newRun(t, mode).test()
		})
	}
}

// edgeEnv tells a process of the test that it is the edge.
const edgeEnv = "XDP_ROAM_TEST_EDGE"

// inNamespace runs the calling test in a process of its own, in a network namespace
// of its own: the server looks at its host's addresses from every thread.
func inNamespace(t *testing.T) {
	edge, err := lab.NewNamespace("edge")
	must(t, err)
	defer edge.Close()
	var out bytes.Buffer
	name := t.Name()
	cmd := exec.Command(os.Args[0], "-test.v", "-test.count=1", "-test.run=^"+strings.ReplaceAll(name, "/", "$/^")+"$", "-load.time="+duration.String())
	cmd.Env = append(os.Environ(), edgeEnv+"=1")
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, edge.Start(cmd))
	err = cmd.Wait()
	t.Log(out.String())
	must(t, err)
}

// run is one load in one mode.
type run struct {
	t        *testing.T
	mode     loader.Mode
	net      *topology
	instance *loader.Instance
	server   *server.Server
	pairs    []*pair
	before   *snapshot
	errs     chan error
}

// pair is a session at both of its ends.
type pair struct {
	host     *host
	client   *client.Session
	server   *server.Session
	up, down *flow
}

func newRun(t *testing.T, mode loader.Mode) *run {
	r := &run{t: t, mode: mode, net: newTopology(t), errs: make(chan error, 100)}
	key := handshake.NewPrivateKey()
	must(t, r.net.edge.Do(func() error { return r.startEdge(key) }))
	r.before = r.read()
	for i, s := range sessions {
		r.connect(key.Public(), &pair{
			host: &host{net: r.net},
			up:   &flow{tag: 2 * uint64(i), size: s.size, batch: s.batch},
			down: &flow{tag: 2*uint64(i) + 1, size: s.size, batch: s.batch},
		})
	}
	return r
}

// startEdge brings the edge up as `xdp-roam run` does, in its namespace.
func (r *run) startEdge(key handshake.PrivateKey) (err error) {
	if r.instance, err = loader.Open(loader.Options{Slots: 4096, Sockets: true}); err != nil {
		return err
	}
	r.t.Cleanup(func() { must(r.t, r.net.edge.Do(r.instance.Close)) })
	attachments, err := r.instance.Attach(r.net.links[:], r.mode)
	if err != nil {
		return err
	}
	r.server, err = server.Listen(server.Config{
		Static: key, Listen: netip.AddrPortFrom(netip.IPv6Unspecified(), serverAddr.Port()), Workers: 2,
		Maps: r.instance.Maps, Cookie: server.CookieNever,
	})
	if err != nil {
		return err
	}
	r.t.Cleanup(func() { r.server.Close() })
	keeper := afxdp.New(afxdp.Config{Sockets: r.instance.Maps.XSKs, Add: r.server.AddQueue, Port: serverAddr.Port()})
	r.t.Cleanup(func() { must(r.t, r.net.edge.Do(keeper.Close)) })
	var list []afxdp.Interface
	for _, a := range attachments {
		if a.Mode != r.mode {
			r.t.Fatalf("%s is in mode %s: %s", a.Interface, a.Mode, a.Reason)
		}
		if a.Mode == loader.ModeAFXDP {
			list = append(list, afxdp.Interface{Name: a.Interface, Index: a.Ifindex, Slot: a.Slot, Queues: a.Queues, MTU: a.MTU})
		}
	}
	if err := keeper.Want(list); err != nil {
		return err
	}
	return r.instance.Listen(r.server.Addr(), 0)
}

// connect opens the session of p.
func (r *run) connect(key handshake.PublicKey, p *pair) {
	ctx, cancel := context.WithTimeout(r.t.Context(), settleTime)
	defer cancel()
	var err error
	p.client, err = client.Dial(ctx, client.Config{
		Servers: []netip.AddrPort{serverAddr}, ServerKey: key, NoReopen: true, Network: p.host,
	})
	must(r.t, err)
	r.t.Cleanup(func() {
		_ = p.client.Close(wire.CloseDone, "")
		for _, m := range p.host.sockets {
			m.end()
		}
	})
	p.server, err = r.server.Accept(ctx)
	must(r.t, err)
	r.pairs = append(r.pairs, p)
}

// endpointOf is what both ends have in common.
type endpointOf interface {
	SendDatagrams([][]byte) (int, error)
	ReceiveDatagrams(context.Context, *inbox.Loan) ([][]byte, error)
}

// send sends numbered datagrams as fast as it can until stop.
func (r *run) send(from endpointOf, f *flow, stop *atomic.Bool) {
	ds := make([][]byte, f.batch)
	for i := range ds {
		ds[i] = make([]byte, f.size)
	}
	for !stop.Load() {
		first := f.sent.Add(uint64(len(ds))) - uint64(len(ds))
		for i := range ds {
			f.number(ds[i], first+uint64(i))
		}
		if n, err := from.SendDatagrams(ds); n != len(ds) || err != nil {
			r.errs <- err
			return
		}
	}
}

// receive checks what comes until the session, or ctx, ends.
func (r *run) receive(ctx context.Context, at endpointOf, f *flow) {
	var loan inbox.Loan
	for {
		datagrams, err := at.ReceiveDatagrams(ctx, &loan)
		if err != nil {
			if !errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) {
				r.errs <- err
			}
			return
		}
		for _, d := range datagrams {
			f.receive(d)
		}
	}
}

func (r *run) test() {
	ctx, cancel := context.WithCancel(r.t.Context())
	var senders, receivers sync.WaitGroup
	var stop atomic.Bool
	for _, p := range r.pairs {
		senders.Go(func() { r.send(p.client, p.up, &stop) })
		senders.Go(func() { r.send(p.server, p.down, &stop) })
		receivers.Go(func() { r.receive(ctx, p.server, p.up) })
		receivers.Go(func() { r.receive(ctx, p.client, p.down) })
	}
	r.move()
	stop.Store(true)
	senders.Wait()
	hops := r.settle()
	for i := range hops {
		if hops[i].balanced() {
			r.t.Log(hops[i].String())
		} else {
			r.t.Error(hops[i].String())
		}
	}
	if r.mode == loader.ModeAFXDP && r.server.Stats().SentDirect == 0 {
		r.t.Error("nothing left by an AF_XDP queue")
	}
	cancel()
	receivers.Wait()
	close(r.errs)
	for err := range r.errs {
		r.t.Error(err)
	}
	for _, p := range r.pairs {
		for _, f := range []*flow{p.up, p.down} {
			if f.fault != nil {
				r.t.Errorf("flow %d: %v", f.tag, f.fault)
			}
			if f.delivered.Load() == 0 {
				r.t.Errorf("flow %d: nothing of %d datagrams was delivered", f.tag, f.sent.Load())
			}
		}
		if moves := p.server.Info().Moves; moves.Committed == 0 {
			r.t.Errorf("flow %d: the client never arrived anywhere: %+v", p.up.tag, moves)
		}
	}
}

// move moves the clients until the time is over, and returns then.
func (r *run) move() {
	end := time.NewTimer(*duration)
	defer end.Stop()
	tick := time.NewTicker(moveEvery)
	defer tick.Stop()
	for rebind := true; ; rebind = !rebind {
		select {
		case <-end.C:
			return
		case err := <-r.errs:
			r.t.Fatal(err)
		case <-tick.C:
		}
		for _, p := range r.pairs {
			if rebind {
				must(r.t, p.host.rebind())
			} else {
				p.host.change()
			}
		}
	}
}

// settle waits until nothing moves any more and returns the account. Sessions may
// still have something to say, and a busy machine takes its time to bring it.
func (r *run) settle() []hop {
	var last *snapshot
	for deadline := time.Now().Add(settleTime); ; time.Sleep(50 * time.Millisecond) {
		now := r.read()
		now.sub(r.before)
		hops := now.ledger(r.mode != loader.ModeSocket)
		balanced := last != nil && now.same(last)
		for i := range hops {
			balanced = balanced && hops[i].balanced()
		}
		if balanced || time.Now().After(deadline) {
			return hops
		}
		last = now
	}
}

// read reads every counter.
func (r *run) read() *snapshot {
	s := &snapshot{data: r.instance.Maps.Counters.Read(), server: r.server.Stats()}
	var err error
	s.clientHost, err = readKernel(r.net.clients, r.net.links[:])
	must(r.t, err)
	s.edgeHost, err = readKernel(r.net.edge, r.net.links[:])
	must(r.t, err)
	for _, w := range r.server.Workers() {
		for lane, n := range w.Packets {
			if lane == server.LaneQueue {
				s.queue += n
			} else {
				s.socketRead += n
			}
		}
	}
	for _, p := range r.pairs {
		info := p.server.Info()
		s.sessions.add(&info.Info)
		s.offered += p.down.sent.Load()
		s.delivered += p.up.delivered.Load()
		s.clients.add(p)
	}
	return s
}

func (c *clientSide) add(p *pair) {
	info := p.client.Info()
	c.endpoint.add(&info.Info)
	c.offered += p.up.sent.Load()
	c.delivered += p.down.delivered.Load()
	c.overflow += info.Overflow
	c.refused += info.SendRefused
	c.socketDropped += info.SocketDropped
	c.late += info.Late
	h := p.host
	c.sent += h.sent.Load()
	c.inits += h.inits.Load()
	c.read += h.read.Load()
	c.handshakes += h.handshakes.Load()
	c.unmapped += h.unmapped.Load()
	c.unread += h.unread.Load()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.sockets {
		_, forgotten := m.drops()
		c.unmappedDropped += forgotten
	}
}
