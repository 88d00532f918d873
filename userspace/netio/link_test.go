// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// TestHeaders lets another implementation read the frames and check their checksums.
func TestHeaders(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, ends := range [][2]string{{"192.0.2.1:7626", "198.51.100.200:65535"}, {"[2001:db8::1]:7626", "[2001:db8:ffff::2]:1"}} {
		local, remote := netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1])
		for tags := range 3 {
			ether := macs
			for i := range tags {
				ether += fmt.Sprintf("8100 e%03x", 10+i) // priority 7
			}
			if remote.Addr().Is4() {
				ether += "0800"
			} else {
				ether += "86dd"
			}
			header := unhex(t, ether)
			link := AnswerLink(header, len(header))
			for n := range 200 {
				payload := make([]byte, n)
				for i := range payload {
					payload[i] = byte(r.Uint32())
				}
				if n%3 == 0 {
					clear(payload)
				}
				b := append(appendHeaders(nil, &link, local, remote, payload), payload...)
				checkFrame(t, b, tags, local, remote, payload)
			}
		}
	}
}

// A frame to or from a group of stations has no answer's header.
func TestAnswerLinkOfGroup(t *testing.T) {
	for _, macs := range []string{"ffffffffffff 020000000002", "020000000001 ffffffffffff", "01005e000001 020000000002", "020000000001 333300000001"} {
		b := unhex(t, macs+ip4+udp)
		if l := AnswerLink(b, ethernetLen); !l.IsZero() {
			t.Errorf("%s: %+v", macs, l)
		}
	}
}

func checkFrame(t *testing.T, b []byte, tags int, local, remote netip.AddrPort, payload []byte) {
	t.Helper()
	var f frame
	if !f.parse(b) || !bytes.Equal(f.payload, payload) || f.remote != local || f.local != remote || f.network != ethernetLen+tags*vlanTagLen {
		t.Fatalf("our own parser reads %+v", f)
	}
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	if err := p.ErrorLayer(); err != nil {
		t.Fatal(err.Error())
	}
	ether := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if ether.DstMAC.String() != "02:00:00:00:00:02" || ether.SrcMAC.String() != "02:00:00:00:00:01" {
		t.Fatalf("from %v to %v", ether.SrcMAC, ether.DstMAC)
	}
	vlans := 0
	for _, l := range p.Layers() {
		if tag, ok := l.(*layers.Dot1Q); ok {
			if tag.Priority != 0 || tag.VLANIdentifier != uint16(10+vlans) {
				t.Fatalf("tag %+v", tag)
			}
			vlans++
		}
	}
	if vlans != tags {
		t.Fatalf("%d tags, want %d", vlans, tags)
	}
	if ip, ok := p.NetworkLayer().(*layers.IPv4); ok {
		if fold(sum(0, ip.Contents)) != 0xffff || ip.Flags != layers.IPv4DontFragment || ip.TOS != 0 {
			t.Fatalf("%+v", ip)
		}
	}
	udp := p.TransportLayer().(*layers.UDP)
	// Naively, word by word, over the pseudo header and the datagram.
	var pseudo []byte
	pseudo = append(append(pseudo, local.Addr().AsSlice()...), remote.Addr().AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(udp.Length))
	pseudo = binary.BigEndian.AppendUint32(pseudo, protoUDP)
	all := append(append(pseudo, udp.Contents...), udp.Payload...)
	if len(all)%2 == 1 {
		all = append(all, 0)
	}
	s := uint32(0)
	for i := 0; i < len(all); i += 2 {
		s += uint32(binary.BigEndian.Uint16(all[i:]))
		s = s>>16 + s&0xffff
	}
	if s != 0xffff || udp.Checksum == 0 {
		t.Fatalf("%d bytes: UDP checksum %#x, the sum is %#x", len(payload), udp.Checksum, s)
	}
}

func BenchmarkHeaders(b *testing.B) {
	link := Link{length: ethernetLen}
	local, remote := netip.MustParseAddrPort("192.0.2.1:7626"), netip.MustParseAddrPort("198.51.100.200:65535")
	for _, n := range []int{64, 1400} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			payload, room := make([]byte, n), make([]byte, 0, 2048)
			b.ReportAllocs()
			for b.Loop() {
				appendHeaders(room, &link, local, remote, payload)
			}
		})
	}
}
