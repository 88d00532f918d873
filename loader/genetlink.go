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
	req := nl.NewNetlinkRequest(unix.GENL_ID_CTRL, 0)
	req.AddData(genericHeader{unix.CTRL_CMD_GETFAMILY, 1})
	req.AddData(nl.NewRtAttr(unix.CTRL_ATTR_FAMILY_NAME, nl.ZeroTerminated(name)))
	answers, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil || len(answers) != 1 || len(answers[0]) < nl.SizeofGenlmsg {
		return 0, false
	}
	attrs, err := nl.ParseRouteAttr(answers[0][nl.SizeofGenlmsg:])
	if err != nil {
		return 0, false
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.CTRL_ATTR_FAMILY_ID && len(a.Value) >= 2 {
			return int(binary.NativeEndian.Uint16(a.Value)), true
		}
	}
	return 0, false
}
