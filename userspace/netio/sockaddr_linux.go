// SPDX-License-Identifier: Apache-2.0

package netio

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// addrPort reads what the kernel wrote. The zero AddrPort for another family.
func addrPort(sa *unix.RawSockaddrInet6) netip.AddrPort {
	switch sa.Family {
	case unix.AF_INET:
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), ntohs(sa4.Port))
	case unix.AF_INET6:
		addr := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.Scope_id != 0 && addr.Is6() {
			// Only link-local peers have one; a number works as a zone everywhere.
			addr = addr.WithZone(strconv.Itoa(int(sa.Scope_id)))
		}
		return netip.AddrPortFrom(addr, ntohs(sa.Port))
	}
	return netip.AddrPort{}
}

// putAddrPort writes a destination in the socket's family and returns its
// length. What does not fit the family is refused by the kernel.
func putAddrPort(sa *unix.RawSockaddrInet6, to netip.AddrPort, six bool) uint32 {
	addr := to.Addr()
	if !six && (addr.Is4() || addr.Is4In6()) {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(sa)) = unix.RawSockaddrInet4{
			Family: unix.AF_INET, Port: htons(to.Port()), Addr: addr.Unmap().As4(),
		}
		return unix.SizeofSockaddrInet4
	}
	if !addr.IsValid() {
		*sa = unix.RawSockaddrInet6{}
		return unix.SizeofSockaddrInet6
	}
	*sa = unix.RawSockaddrInet6{
		Family: unix.AF_INET6, Port: htons(to.Port()), Addr: addr.As16(), Scope_id: scope(addr.Zone()),
	}
	return unix.SizeofSockaddrInet6
}

func scope(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	if ifi, err := net.InterfaceByName(zone); err == nil {
		return uint32(ifi.Index)
	}
	return 0
}

// control is room for the ancillary data of one datagram: a packet info
// (IPv6's is the larger one) and a segment size. Words, for the alignment.
type control [(cmsgInfoSpace + cmsgSegmentSpace) / 8]uint64

// CMSG_SPACE of struct in6_pktinfo and of an int, on any architecture at most.
const (
	cmsgInfoSpace    = 40
	cmsgSegmentSpace = 24
)

func (c *control) bytes() []byte { return unsafe.Slice((*byte)(unsafe.Pointer(c)), len(c)*8) }

// decode returns the address that the datagram was sent to and the size of
// its segments (0: one). A dual-stack socket reports IPv4's mapped.
func (c *control) decode(length int) (local netip.Addr, segment int) {
	b := c.bytes()
	b = b[:min(length, len(b))]
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
		n := int(h.Len)
		if n < unix.SizeofCmsghdr || n > len(b) {
			break
		}
		data := b[unix.CmsgLen(0):n]
		switch {
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= 16:
			local = netip.AddrFrom16([16]byte(data)).Unmap()
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// struct in_pktinfo: interface, our address for the answer, the header's destination.
			local = netip.AddrFrom4([4]byte(data[8:]))
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4: // an int, unlike UDP_SEGMENT
			segment = int(binary.NativeEndian.Uint32(data))
		}
		// The kernel aligns each one as CMSG_SPACE does.
		b = b[min(unix.CmsgSpace(n-unix.CmsgLen(0)), len(b)):]
	}
	return local, segment
}

// encode writes the address to leave from and the segment size, where given,
// and returns the length.
func (c *control) encode(local netip.Addr, segment int, six bool) int {
	n := 0
	if local.IsValid() && !local.IsUnspecified() {
		switch {
		case six:
			info := unix.Inet6Pktinfo{Addr: local.As16(), Ifindex: scope(local.Zone())}
			*(*unix.Inet6Pktinfo)(c.put(&n, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)) = info
		case local.Is4() || local.Is4In6():
			info := unix.Inet4Pktinfo{Spec_dst: local.Unmap().As4()}
			*(*unix.Inet4Pktinfo)(c.put(&n, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)) = info
		}
	}
	if segment > 0 {
		*(*uint16)(c.put(&n, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)) = uint16(segment)
	}
	return n
}

// put appends a control message's header at *n and returns where its data goes.
func (c *control) put(n *int, level, typ int32, size int) unsafe.Pointer {
	b := c.bytes()[*n:]
	h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
	*h = unix.Cmsghdr{Level: level, Type: typ}
	h.SetLen(unix.CmsgLen(size))
	*n += unix.CmsgSpace(size)
	return unsafe.Pointer(&b[unix.CmsgLen(0)])
}

func ntohs(v uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], v)
	return binary.BigEndian.Uint16(b[:])
}

func htons(v uint16) uint16 { return ntohs(v) }
