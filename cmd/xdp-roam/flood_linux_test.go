// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
	"github.com/xdp-roam/xdp-roam/userspace/wire"
)

// strangers are who a flood claims to come from: nobody (RFC 2544).
var strangers = netip.MustParsePrefix("198.18.0.0/15")

// Without XDP too, neither a flood of spoofed INITs nor one of unknown versions
// keeps honest clients out, on whichever CPU their packets arrive: those that must
// bring a cookie are told so.
func TestFloodWithoutXDP(t *testing.T) {
	for _, cookie := range []string{"auto", "always"} {
		t.Run(cookie, func(t *testing.T) {
			b := newLabBench(t)
			b.startEdge("--mode", "socket", "--cookie", cookie)
			f := b.flood()
			for i := range 3 {
				client := b.startClient("-L", fmt.Sprintf("%d:7", 5007+i))
				ask(t, b.program(uint16(5007+i)), "through the flood")
				client.stop(unix.SIGTERM)
			}
			f.stop()
			counted := map[string]uint64{}
			for _, c := range items[control.Counter](b, "stats") {
				counted[c.Stage+" "+c.Reason] = c.Value
			}
			// With "auto" the first ones need no cookie.
			asked := counted["socket init_slow"]
			if asked < 1000 || counted["socket init_slow_limit"] != 0 {
				t.Errorf("%d INITs came to be answered by RETRY, %d were refused", asked, counted["socket init_slow_limit"])
			}
			// A busy machine's sockets lose some of them before anyone can answer.
			if n, answered := f.retries.Load(), counted["server retry"]; answered == 0 || n < answered/2 {
				t.Errorf("%d RETRYs came of %d for %d INITs", n, answered, asked)
			}
			if counted["socket version_limit"] == 0 {
				t.Error("the flood of unknown versions met no limit")
			}
			if t.Failed() {
				t.Logf("%v", counted)
			}
		})
	}
}

// flood is INITs with a good mac1, half of them of an unknown version, sent to
// the edge under strangers' addresses by every CPU.
type flood struct {
	sent, retries atomic.Uint64
	end           chan struct{}
	senders       sync.WaitGroup
	tap           *os.File
}

// Far above the limits that the flood is to exhaust, and below that of RETRYs.
const floodEachMillisecond = 8

func (b *labBench) flood() *flood {
	b.t.Helper()
	f := &flood{end: make(chan struct{})}
	fail := func(err error) {
		if err != nil {
			b.t.Fatal(err)
		}
	}
	// So that the RETRYs go somewhere.
	fail(b.edge.AddRoute(lab.Route{Dst: strangers, Via: clientAddrs[0], Link: "edge0"}))
	var err error
	f.tap, err = b.client.OpenPacket("client0", lab.EtherIPv4)
	fail(err)
	b.t.Cleanup(func() { f.tap.Close() })
	go f.countRetries()

	headers := append(b.mac(b.edge, "edge0"), b.mac(b.client, "client0")...)
	mac1 := handshake.NewMAC1Key(b.serverKey.Public())
	var cpus unix.CPUSet
	fail(unix.SchedGetaffinity(0, &cpus))
	for cpu := range 1024 {
		if !cpus.IsSet(cpu) {
			continue
		}
		raw, err := b.client.OpenPacket("client0", lab.EtherNone)
		fail(err)
		f.senders.Go(func() {
			defer raw.Close()
			runtime.LockOSThread() // never unlocked: the thread ends with its affinity
			var one unix.CPUSet
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				b.t.Errorf("pin to CPU %d: %v", cpu, err)
			}
			for {
				select {
				case <-f.end:
					return
				case <-time.After(time.Millisecond):
				}
				for i := range floodEachMillisecond {
					if _, err := raw.Write(spoofedInit(headers, mac1, uint32(1+i%2))); err == nil {
						f.sent.Add(1)
					}
				}
			}
		})
	}
	b.t.Cleanup(f.stop)
	until(b.t, "the flood has exhausted the small limits", func() bool { return f.sent.Load() > 8000 })
	return f
}

func (f *flood) stop() {
	select {
	case <-f.end:
	default:
		close(f.end)
	}
	f.senders.Wait()
}

func (f *flood) countRetries() {
	frame := make([]byte, 2048)
	for {
		n, err := f.tap.Read(frame)
		if err != nil {
			return
		}
		if n < 14+20+8+wire.RetryLen || !strangers.Contains(netip.AddrFrom4([4]byte(frame[30:34]))) {
			continue
		}
		if _, _, err := wire.ParseRetry(frame[42 : 42+wire.RetryLen]); err == nil {
			f.retries.Add(1)
		}
	}
}

func (b *labBench) mac(n *lab.Namespace, link string) []byte {
	b.t.Helper()
	var mac net.HardwareAddr
	err := n.Do(func() error {
		i, err := net.InterfaceByName(link)
		if err == nil {
			mac = i.HardwareAddr
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return mac
}

// spoofedInit is the frame of an INIT that only the server's private key shows
// to be noise.
func spoofedInit(macs []byte, mac1 handshake.MAC1Key, version uint32) []byte {
	noise := func(b []byte) {
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
	}
	var hid wire.ID
	noise(hid[:])
	payload := wire.NewInit(make([]byte, wire.InitLen), hid)
	noise(payload.Noise())
	binary.BigEndian.PutUint32(payload[4:], version)
	payload.SetMAC1(mac1.Sum(payload))

	source := strangers.Addr().As4()
	noise(source[2:])
	destination := edgeAddr.As4()
	b := append(append([]byte{}, macs...), 0x08, 0x00)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(20+8+len(payload)))
	b = append(b, 0, 0, 0x40, 0, 64, unix.IPPROTO_UDP, 0, 0)
	b = append(append(b, source[:]...), destination[:]...)
	var sum uint32
	for at := 14; at < len(b); at += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[at:]))
	}
	binary.BigEndian.PutUint16(b[24:], ^uint16(sum>>16+sum&0xffff))
	b = binary.BigEndian.AppendUint16(b, uint16(1024+rand.IntN(60000)))
	b = binary.BigEndian.AppendUint16(b, wire.DefaultPort)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...) // no UDP checksum
}
