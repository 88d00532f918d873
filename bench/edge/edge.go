// SPDX-License-Identifier: Apache-2.0

//go:build linux

package edge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"

	"github.com/xdp-roam/xdp-roam/bpf"
	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/network"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/netio"
	"github.com/xdp-roam/xdp-roam/userspace/server"
)

// Port is where servers listen.
const Port = 7626

// queueFrames is how many frames an AF_XDP socket has: more than a Burst.
const queueFrames = 2 * Burst

// maxInbox holds a Burst for an application that shares its CPU with the worker and
// waits for its turn, which the kernel may take milliseconds to give it.
const maxInbox = 16 << 20

// Edge is a server with one worker behind roam_xdp and an AF_XDP socket, and one
// client at the other end of a wire.
type Edge struct {
	Wire    *network.Wire
	Server  *server.Server
	Session *server.Session
	Client  *Client

	set    *maps.Set
	shared map[string]*ebpf.Map
	*Injector
}

// New makes an edge over a wire, whose session carries datagrams of size. The caller
// closes it, then the wire.
func New(ctx context.Context, w *network.Wire, size int) (e *Edge, err error) {
	e = &Edge{Wire: w}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	addr := netip.AddrPortFrom(network.ServerAddr, Port)
	if e.set, err = maps.Create(1 << 16); err != nil {
		return e, err
	}
	// Of the programs only that of the sockets is attached: roam_xdp runs under the
	// harness, which brings the frames.
	programs, err := e.set.LoadPrograms(ebpf.ProgramOptions{})
	if err != nil {
		return e, err
	}
	defer programs.XDP.Close()
	if err := e.set.Listeners.Add(maps.Listener{Addr: addr}); err != nil {
		return e, err
	}
	err = w.Server.Do(func() error {
		e.Server, err = server.Listen(server.Config{
			Listen: addr, Static: handshake.NewPrivateKey(), Workers: 1, Maps: e.set, Cookie: server.CookieNever,
			Limits: server.Limits{ReceiveBuffer: maxInbox},
		})
		if err != nil {
			return err
		}
		return e.addQueue()
	})
	if err != nil {
		return e, err
	}
	dialing, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if e.Client, err = dial(dialing, w.Client, network.ClientAddr, addr, e.Server.PublicKey(), size); err != nil {
		return e, err
	}
	if e.Session, err = e.Server.Accept(dialing); err != nil {
		return e, err
	}
	if e.shared, err = harness.PlaneMaps(e.set); err != nil {
		return e, err
	}
	spec, err := bpf.LoadRoam()
	if err != nil {
		return e, err
	}
	if err := spec.Variables["xsk_enabled"].Set(true); err != nil {
		return e, err
	}
	e.Injector, err = newInjector(w, "roam_xdp", spec, e.shared)
	return e, err
}

// addQueue opens an AF_XDP socket for the server; in its namespace.
func (e *Edge) addQueue() error {
	q, err := netio.ListenXSK(netio.XSKConfig{Interface: e.Wire.Device, Port: Port, MTU: 1500, Frames: queueFrames})
	if err != nil {
		return err
	}
	raw, err := q.SyscallConn()
	if err != nil {
		return errors.Join(err, q.Close())
	}
	if err := e.set.XSKs.Set(0, 0, raw); err != nil {
		return errors.Join(err, q.Close())
	}
	_, err = e.Server.AddQueue(q)
	return err
}

// Play plays datagrams of size, at least n, until count says that they were worked off.
func (e *Edge) Play(n, size int, count func() uint64) (Cost, error) {
	c, err := e.Injector.Play(harness.Tested, n, count, func() error {
		ends := e.Wire.Ends(e.Client.Addr().Port(), Port)
		return e.Client.Record(Burst, size, func(packet []byte) error { return e.Recording.Append(ends, packet) })
	})
	if err != nil {
		st := e.Server.Stats()
		err = fmt.Errorf("the server: %w; %d were dropped before their reader, the queue lost %+v", err, st.DatagramsDropped, st.QueueDrops)
	}
	return c, err
}

// Close ends all but the wire.
func (e *Edge) Close() error {
	var errs []error
	if e.Client != nil {
		errs = append(errs, e.Client.Close())
	}
	if e.Injector != nil {
		errs = append(errs, e.Injector.Close())
	}
	harness.CloseMaps(e.shared)
	if e.Server != nil {
		errs = append(errs, e.Server.Close())
	}
	if e.set != nil {
		errs = append(errs, e.set.Close())
	}
	return errors.Join(errs...)
}

// Injector plays a recording of frames to whatever listens at the server's end.
type Injector struct {
	Recording *harness.Recording
	wire      *network.Wire
	h         *harness.Harness
}

func newInjector(w *network.Wire, program string, spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map) (*Injector, error) {
	entries := map[string]uint32{harness.RecordsMap: Burst}
	if m := shared["slots"]; m != nil {
		entries["slots"] = m.MaxEntries()
	}
	h, err := harness.Load(program, spec, harness.Options{Entries: entries, Shared: shared})
	if err != nil {
		return nil, err
	}
	i := &Injector{wire: w, h: h}
	if i.Recording, err = h.Recording(); err != nil {
		h.Close()
		return nil, err
	}
	return i, nil
}

// Close gives the harness back.
func (i *Injector) Close() error {
	err := i.Recording.Close()
	i.h.Close()
	return err
}

// Cost is what a recording cost.
type Cost struct {
	Packets float64
	CPU     float64 // ns for each, of the whole process, without the generator's
}

// Play records a burst of frames again and again, brings them to a program of the
// harness, and waits until count says that they were worked off, until there were n
// packets. The few that a full socket has lost count for nothing, at the receiver's
// expense.
func (i *Injector) Play(program string, n int, count func() uint64, record func() error) (c Cost, err error) {
	var spent time.Duration
	failed := 0
	for c.Packets < float64(n) {
		i.Recording.Reset()
		if err := record(); err != nil {
			return c, err
		}
		idle, _, err := i.burst(harness.OnlyReturn, nil)
		if err != nil {
			return c, err
		}
		all, worked, err := i.burst(program, count)
		if errors.Is(err, errLost) && failed < maxFailed { // such as when the peer has just changed its keys
			failed++
			continue
		}
		if err != nil {
			return c, err
		}
		failed = 0
		spent += all - idle
		c.Packets += float64(worked)
	}
	c.CPU = float64(spent) / c.Packets
	return c, nil
}

// maxFailed bursts in a row may be lost: they do not count.
const maxFailed = 3

var errLost = errors.New("packets were lost")

// settled is for how long nothing more is worked off when all has been.
const settled = 250 * time.Millisecond

// burst plays the recording once and returns the CPU time that it took and how many
// packets were worked off: most of them, or something is wrong. Without count nobody
// gets them.
func (i *Injector) burst(program string, count func() uint64) (cpu time.Duration, worked uint64, err error) {
	if err := i.Recording.Play(); err != nil {
		return 0, 0, err
	}
	all, before := uint64(i.Recording.Len()), uint64(0)
	if count != nil {
		before = count()
	}
	start := harness.ProcessTime()
	if _, err := i.wire.Inject(i.h, program, i.Recording.Len()); err != nil {
		return 0, 0, err
	}
	cpu = harness.ProcessTime() - start
	if count == nil {
		return cpu, all, nil
	}
	for last := time.Now(); worked < all && time.Since(last) < settled; time.Sleep(100 * time.Microsecond) {
		if now := count() - before; now > worked {
			worked, last, cpu = now, time.Now(), harness.ProcessTime()-start
		}
	}
	if worked < all*9/10 {
		return 0, 0, fmt.Errorf("%w: of %d packets %d were worked off", errLost, all, worked)
	}
	return cpu, worked, nil
}
