// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/server"
	"github.com/xdp-roam/xdp-roam/userspace/session"
)

// kernel is what the kernel has counted in a network namespace: its protocols'
// counters by name ("Udp.NoPorts"), and what its links did.
type kernel struct {
	protocols         map[string]uint64
	sent, sendDropped uint64 // by its links
}

// readKernel reads the counters of a namespace.
func readKernel(ns *lab.Namespace, links []string) (k kernel, err error) {
	k.protocols = make(map[string]uint64)
	err = ns.Do(func() error {
		for _, name := range []string{"snmp", "netstat"} {
			// Not /proc/net: that is the main thread's namespace.
			text, err := os.ReadFile("/proc/thread-self/net/" + name)
			if err != nil {
				return err
			}
			parseProtocols(text, k.protocols)
		}
		return nil
	})
	for _, link := range links {
		st, statErr := ns.LinkStats(link)
		if statErr != nil {
			return k, statErr
		}
		k.sent += st.TxPackets
		k.sendDropped += st.TxDropped
	}
	return k, err
}

// parseProtocols reads pairs of lines: names, then values.
func parseProtocols(text []byte, into map[string]uint64) {
	var names []string
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if names == nil {
			names = f
			continue
		}
		for i := 1; i < len(f) && i < len(names); i++ {
			if n, err := strconv.ParseUint(f[i], 10, 64); err == nil {
				into[strings.TrimSuffix(f[0], ":")+"."+names[i]] = n
			}
		}
		names = nil
	}
}

func (k kernel) sub(before kernel) kernel {
	d := kernel{protocols: make(map[string]uint64), sent: k.sent - before.sent, sendDropped: k.sendDropped - before.sendDropped}
	for name, n := range k.protocols {
		d.protocols[name] = n - before.protocols[name]
	}
	return d
}

// received is how many IP packets came, each by itself: nobody sets ECN here, and
// this counter tells those apart that GRO has joined.
func (k kernel) received() uint64 { return k.protocols["IpExt.InNoECTPkts"] }

// stackDrops are the packets that the stack dropped between IP and a socket's queue.
func (k kernel) stackDrops() (list []entry) {
	for _, name := range []string{"Ip.InHdrErrors", "Ip.InAddrErrors", "Ip.InUnknownProtos", "Ip.InDiscards", "Udp.NoPorts"} {
		list = append(list, entry{name, k.protocols[name]})
	}
	return append(list, entry{"icmp", k.protocols["Icmp.InMsgs"]})
}

// endpoint is what the sessions of one side have counted together.
type endpoint struct {
	sentPackets, sentDatagrams         uint64
	receivedPackets, receivedDatagrams uint64
	reasons                            [session.NumReasons]uint64
}

func (e *endpoint) add(i *session.Info) {
	e.sentPackets += i.Sent.Packets
	e.sentDatagrams += i.Sent.Datagrams
	e.receivedPackets += i.Received.Packets
	e.receivedDatagrams += i.Received.Datagrams
	for r, n := range i.Counts {
		e.reasons[r] += n
	}
}

// clientSide is what all clients have counted.
type clientSide struct {
	endpoint
	offered, delivered                     uint64 // datagrams
	overflow, refused, socketDropped, late uint64
	sent, inits, read, handshakes          uint64
	unmapped, unmappedDropped, unread      uint64
}

// snapshot is every counter on the way.
type snapshot struct {
	clients           clientSide
	clientHost        kernel
	edgeHost          kernel
	data              maps.Snapshot
	server            server.Stats
	sessions          endpoint
	offered           uint64 // datagrams that the server's application gave
	delivered         uint64 // and got
	socketRead, queue uint64 // packets that the server's readers took, from sockets and from AF_XDP
}

func (s *snapshot) sub(before *snapshot) {
	s.clientHost = s.clientHost.sub(before.clientHost)
	s.edgeHost = s.edgeHost.sub(before.edgeHost)
	s.data = s.data.Sub(before.data)
}

func (s *snapshot) same(o *snapshot) bool { return fmt.Sprint(s) == fmt.Sprint(o) }
