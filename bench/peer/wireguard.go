// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package peer runs other people's programs on the wires of the benchmarks.
package peer

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/network"
	"github.com/xdp-roam/xdp-roam/internal/lab"
)

// WireGuard ports of the two ends.
const (
	ServerPort = 51820
	ClientPort = 51821
)

// patience is for what happens in no time unless something is wrong.
const patience = 30 * time.Second

// WireGuard is two devices of wireguard-go with its own sockets, and with memory in
// the place of their network interfaces.
type WireGuard struct {
	Server, Client *End
}

// End is one device.
type End struct {
	device *device.Device
	tun    *memory
	bind   *bind
}

// NewWireGuard makes both ends and waits for their handshake. The caller closes it.
func NewWireGuard(w *network.Wire, size int) (wg *WireGuard, err error) {
	keys := [2]*ecdh.PrivateKey{}
	for i := range keys {
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return nil, err
		}
	}
	inner := [2]netip.Addr{netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")}
	wg = &WireGuard{}
	open := func(ns *lab.Namespace, own, other, port int, endpoint string) (*End, error) {
		e := &End{tun: newMemory(ipPacket(inner[own], inner[other], size)), bind: &bind{Bind: conn.NewStdNetBind(), deaf: make(chan struct{})}}
		err := ns.Do(func() error {
			e.device = device.NewDevice(e.tun, e.bind, device.NewLogger(device.LogLevelSilent, ""))
			config := fmt.Sprintf("private_key=%s\nlisten_port=%d\npublic_key=%s\nallowed_ip=%v/32\n%s",
				hex.EncodeToString(keys[own].Bytes()), port, hex.EncodeToString(keys[other].PublicKey().Bytes()), inner[other], endpoint)
			return errors.Join(e.device.IpcSet(config), e.device.Up())
		})
		return e, err
	}
	if wg.Server, err = open(w.Server, 0, 1, ServerPort, ""); err != nil {
		return nil, errors.Join(err, wg.Close())
	}
	endpoint := fmt.Sprintf("endpoint=%v\n", netip.AddrPortFrom(network.ServerAddr, ServerPort))
	if wg.Client, err = open(w.Client, 1, 0, ClientPort, endpoint); err != nil {
		return nil, errors.Join(err, wg.Close())
	}
	wg.Client.Send(1)
	for end := time.Now().Add(patience); wg.Server.Received() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return nil, errors.Join(errors.New("wireguard-go: no handshake"), wg.Close())
		}
	}
	return wg, nil
}

// Close ends both devices.
func (wg *WireGuard) Close() error {
	for _, e := range []*End{wg.Server, wg.Client} {
		if e != nil {
			e.device.Close()
		}
	}
	return nil
}

// Send has the device send n packets that come from its interface.
func (e *End) Send(n int) { e.tun.give <- n }

// TimeSend has it send n packets and returns the CPU time of this process for each,
// ns: who else works in it is to be quiet.
func (e *End) TimeSend(n int) (float64, error) {
	before, cpu := e.bind.sent.Load(), harness.ProcessTime()
	e.Send(n)
	for end := time.Now().Add(patience); e.bind.sent.Load()-before < uint64(n); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			return 0, fmt.Errorf("wireguard-go sent %d of %d packets", e.bind.sent.Load()-before, n)
		}
	}
	return float64(harness.ProcessTime()-cpu) / float64(n), nil
}

// Received counts the packets that it has opened and given to its interface.
func (e *End) Received() uint64 { return e.tun.written.Load() }

// Deafen has the device read nothing any more, for good.
func (e *End) Deafen() { e.bind.once.Do(func() { close(e.bind.deaf) }) }

// Record gives what the device would send for n packets of its interface to keep
// instead of to the network.
func (e *End) Record(n, size int, keep func([]byte) error) error {
	const header, tag, padding = 16, 16, 16
	length := header + (size+padding-1)/padding*padding + tag
	kept, done := 0, make(chan error, 1)
	e.bind.record(func(packet []byte) {
		if len(packet) != length || kept == n {
			return
		}
		err := keep(packet)
		if kept++; err != nil || kept == n {
			kept = n
			done <- err
		}
	})
	defer e.bind.record(nil)
	e.Send(n)
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return errors.New("wireguard-go did not seal what it was given")
	}
}

// ipPacket is what comes from an interface.
func ipPacket(from, to netip.Addr, size int) []byte {
	p := make([]byte, size)
	p[0], p[8], p[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(p[2:], uint16(size))
	copy(p[12:], from.AsSlice())
	copy(p[16:], to.AsSlice())
	return p
}

// memory is a network interface that gives as many packets as it is asked for, and
// counts what it gets.
type memory struct {
	packet  []byte
	give    chan int
	left    int
	written atomic.Uint64
	events  chan tun.Event
	closed  chan struct{}
	once    sync.Once
}

func newMemory(packet []byte) *memory {
	return &memory{packet: packet, give: make(chan int, 1), events: make(chan tun.Event, 1), closed: make(chan struct{})}
}

// Read implements tun.Device.
func (m *memory) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	for m.left == 0 {
		select {
		case m.left = <-m.give:
		case <-m.closed:
			return 0, os.ErrClosed
		}
	}
	n := min(len(bufs), m.left)
	for i := range n {
		sizes[i] = copy(bufs[i][offset:], m.packet)
	}
	m.left -= n
	return n, nil
}

// Write implements tun.Device.
func (m *memory) Write(bufs [][]byte, _ int) (int, error) {
	m.written.Add(uint64(len(bufs)))
	return len(bufs), nil
}

// The rest of tun.Device.
func (*memory) File() *os.File             { return nil }
func (*memory) MTU() (int, error)          { return 1420, nil }
func (*memory) Name() (string, error)      { return "memory", nil }
func (m *memory) Events() <-chan tun.Event { return m.events }
func (*memory) BatchSize() int             { return conn.IdealBatchSize }

// Close implements tun.Device.
func (m *memory) Close() error {
	m.once.Do(func() {
		close(m.closed)
		close(m.events)
	})
	return nil
}

// bind is wireguard-go's own sockets, whose packets can be recorded.
type bind struct {
	conn.Bind
	sent atomic.Uint64
	deaf chan struct{} // closed: for good
	once sync.Once

	mu   sync.Mutex
	keep func([]byte)
}

func (b *bind) record(keep func([]byte)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keep = keep
}

// Send implements conn.Bind.
func (b *bind) Send(bufs [][]byte, to conn.Endpoint) error {
	b.mu.Lock()
	keep := b.keep
	if keep != nil {
		for _, p := range bufs {
			keep(p)
		}
	}
	b.mu.Unlock()
	if keep != nil {
		return nil
	}
	err := b.Bind.Send(bufs, to)
	b.sent.Add(uint64(len(bufs)))
	return err
}

// Open implements conn.Bind.
func (b *bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	functions, actual, err := b.Bind.Open(port)
	for i, f := range functions {
		functions[i] = func(packets [][]byte, sizes []int, from []conn.Endpoint) (int, error) {
			select {
			case <-b.deaf:
				return 0, net.ErrClosed
			default:
				return f(packets, sizes, from)
			}
		}
	}
	return functions, actual, err
}
