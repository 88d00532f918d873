// SPDX-License-Identifier: Apache-2.0

// Package capture writes traced packets as pcapng (draft-ietf-opsawg-pcapng), for
// Wireshark and its kin. Each stage, and each interface at the XDP stage, is an
// interface of the file; what became of a packet is its comment.
package capture

import (
	"fmt"
	"io"
	"runtime"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/xdp-roam/xdp-roam/userspace/control"
)

// Writer writes one file. Flush after a packet leaves a whole one.
type Writer struct {
	out        io.Writer
	options    pcapgo.NgWriterOptions
	ng         *pcapgo.NgWriter // nil before the first interface
	interfaces map[pcapgo.NgInterface]int
}

// New prepares a file by application, such as "xdp-roam v1".
func New(w io.Writer, application string) *Writer {
	return &Writer{
		out: w, interfaces: make(map[pcapgo.NgInterface]int),
		options: pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: application}},
	}
}

// Write adds a packet. What has no IP header in its data gets one made up from its
// addresses: without options, of TTL 64.
func (w *Writer) Write(p *control.Packet) error {
	data, total := p.Data, p.Total
	link := layers.LinkTypeRaw
	switch p.Link {
	case control.LinkEthernet:
		link = layers.LinkTypeEthernet
	case control.LinkIP:
	default:
		headers, err := ipHeaders(p)
		if err != nil {
			return err
		}
		data, total = append(headers, p.Data...), len(headers)+p.Bytes
	}
	name := p.Stage
	if p.Interface != "" {
		name += " " + p.Interface
	}
	index, err := w.index(pcapgo.NgInterface{Name: name, LinkType: link})
	if err != nil {
		return err
	}
	comment := fmt.Sprintf("%s: %s %s", p.Stage, p.Verdict, p.Reason)
	if !p.Session.IsZero() {
		comment += ", session " + p.Session.String()
	}
	info := gopacket.CaptureInfo{Timestamp: p.Time, CaptureLength: len(data), Length: max(total, len(data)), InterfaceIndex: index}
	return w.ng.WritePacketWithOptions(info, data, pcapgo.NgPacketOptions{Comments: []string{comment}})
}

// index returns the file's number of an interface.
func (w *Writer) index(i pcapgo.NgInterface) (int, error) {
	if index, known := w.interfaces[i]; known {
		return index, nil
	}
	var index int
	var err error
	if w.ng == nil {
		w.ng, err = pcapgo.NewNgWriterInterface(w.out, i, w.options)
	} else {
		index, err = w.ng.AddInterface(i)
	}
	if err != nil {
		return 0, fmt.Errorf("writing the capture: %w", err)
	}
	w.interfaces[i] = index
	return index, nil
}

// Flush writes what there is; a file without packets is one all the same.
func (w *Writer) Flush() error {
	if w.ng == nil {
		if _, err := w.index(pcapgo.NgInterface{Name: "server", LinkType: layers.LinkTypeRaw}); err != nil {
			return err
		}
	}
	return w.ng.Flush()
}

// ipHeaders makes up the IP and UDP headers of a packet. UDP's checksum is 0, as the
// payload may be cut.
func ipHeaders(p *control.Packet) ([]byte, error) {
	from, to := p.Remote, p.Local
	if p.Verdict == "send" {
		from, to = to, from
	}
	b := gopacket.NewSerializeBuffer()
	udp := &layers.UDP{SrcPort: layers.UDPPort(from.Port()), DstPort: layers.UDPPort(to.Port()), Length: uint16(8 + p.Bytes)}
	src, dst := from.Addr().Unmap(), to.Addr().Unmap()
	var ip gopacket.SerializableLayer
	if src.Is4() && dst.Is4() {
		ip = &layers.IPv4{Version: 4, IHL: 5, Length: uint16(28 + p.Bytes), TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	} else {
		s, d := src.As16(), dst.As16()
		ip = &layers.IPv6{Version: 6, Length: uint16(8 + p.Bytes), HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: s[:], DstIP: d[:]}
	}
	for _, layer := range []gopacket.SerializableLayer{udp, ip} {
		if err := layer.SerializeTo(b, gopacket.SerializeOptions{}); err != nil {
			return nil, fmt.Errorf("making up the headers of a packet: %w", err)
		}
	}
	headers := b.Bytes()
	if src.Is4() && dst.Is4() { // the one checksum that can be right
		sum := uint32(0)
		for i := 0; i < 20; i += 2 {
			sum += uint32(headers[i])<<8 | uint32(headers[i+1])
		}
		sum = sum>>16 + sum&0xffff
		sum = ^(sum>>16 + sum)
		headers[10], headers[11] = byte(sum>>8), byte(sum)
	}
	return headers, nil
}
