// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"encoding/binary"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// genericHeader is struct genlmsghdr: command, version, and two bytes for alignment
// that nl.Genlmsg lacks, which sends what lies behind it in memory.
type genericHeader struct{ command, version byte }

// Len implements nl.NetlinkRequestData.
func (genericHeader) Len() int { return nl.SizeofGenlmsg }

// Serialize implements nl.NetlinkRequestData.
func (h genericHeader) Serialize() []byte { return []byte{h.command, h.version, 0, 0} }

// genericFamily returns the number of a generic netlink family; known is false
// where the kernel has none of that name.
func genericFamily(name string) (family int, known bool) {
	value, known := genericAttr(unix.GENL_ID_CTRL, unix.CTRL_CMD_GETFAMILY,
		nl.NewRtAttr(unix.CTRL_ATTR_FAMILY_NAME, nl.ZeroTerminated(name)), unix.CTRL_ATTR_FAMILY_ID, 2)
	if !known {
		return 0, false
	}
	return int(binary.NativeEndian.Uint16(value)), true
}

// genericAttr asks a family about one thing and returns the answer's attribute of a
// kind, of size bytes or more; false where the kernel has none.
func genericAttr(family int, command uint8, about *nl.RtAttr, kind uint16, size int) (value []byte, known bool) {
	req := nl.NewNetlinkRequest(family, 0)
	req.AddData(genericHeader{command, 1})
	req.AddData(about)
	answers, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil || len(answers) != 1 || len(answers[0]) < nl.SizeofGenlmsg {
		return nil, false
	}
	attrs, err := nl.ParseRouteAttr(answers[0][nl.SizeofGenlmsg:])
	if err != nil {
		return nil, false
	}
	for _, a := range attrs {
		if a.Attr.Type == kind && len(a.Value) >= size {
			return a.Value, true
		}
	}
	return nil, false
}
