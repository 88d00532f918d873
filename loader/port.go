// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CheckPort finds out whether something else has the UDP port. A server's own
// sockets share theirs (SO_REUSEPORT), so that they would not notice another
// server of the same user, and the kernel would split the packets among the two.
// Port 0 is always free.
func CheckPort(address netip.AddrPort) error {
	if address.Port() == 0 {
		return nil
	}
	network := "udp"
	if address.Addr().Is4() {
		network = "udp4"
	}
	probe, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(address))
	if err == nil {
		return probe.Close()
	}
	var errno unix.Errno
	if errors.As(err, &errno) { // without what the net package says around it
		err = errno
	}
	return diagnose(opListen, err, facts{address: address, owners: PortOwners("udp", address.Port())})
}

// PortOwners names the processes of this network namespace that have a UDP
// socket on the port, or with network "tcp" a listening one, as far as this
// process may look: "nginx (pid 812)".
func PortOwners(network string, port uint16) []string {
	inodes := make(map[string]bool)
	for _, family := range []string{"", "6"} {
		socketInodes("/proc/thread-self/net/"+network+family, port, network == "tcp", inodes)
	}
	if len(inodes) == 0 {
		return nil
	}
	var owners []string
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range processes {
		if holdsSocket(process, inodes) {
			name, _ := os.ReadFile(filepath.Join(process, "comm"))
			owners = append(owners, fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(process)))
		}
	}
	slices.Sort(owners)
	return owners
}

// tcpListen is the kernel's TCP_LISTEN as its tables write it.
const tcpListen = "0A"

// socketInodes adds the inodes of sockets on the port in one of the kernel's
// tables: "sl local_address rem_address st queues tr retrnsmt uid timeout inode ...".
func socketInodes(table string, port uint16, listening bool, inodes map[string]bool) {
	file, err := os.Open(table)
	if err != nil {
		return
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) < 10 || listening && fields[3] != tcpListen {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil && uint16(n) == port {
			inodes[fields[9]] = true
		}
	}
}

func holdsSocket(process string, inodes map[string]bool) bool {
	files, err := os.ReadDir(filepath.Join(process, "fd"))
	if err != nil {
		return false // another user's process, or gone
	}
	for _, file := range files {
		target, err := os.Readlink(filepath.Join(process, "fd", file.Name()))
		if err != nil {
			continue
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok && inodes[strings.TrimSuffix(inode, "]")] {
			return true
		}
	}
	return false
}
