// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilities is a set of capability bits as in CapEff of /proc/self/status.
type capabilities uint64

func (c capabilities) has(bit uint) bool { return c>>bit&1 != 0 }

// needed are the capabilities that loading asks for, in the order of their use.
var needed = []struct {
	name     string
	bit      uint
	implied  uint // CAP_SYS_ADMIN stands for it; 0: nothing does
	required bool
	without  string // what it is like without it
}{
	{"CAP_BPF", unix.CAP_BPF, unix.CAP_SYS_ADMIN, true, ""},
	{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN, 0, true, ""},
	{"CAP_PERFMON", unix.CAP_PERFMON, unix.CAP_SYS_ADMIN, false, "without CAP_PERFMON the verifier hardens the programs, which makes them several times slower"},
	{"CAP_NET_RAW", unix.CAP_NET_RAW, 0, false, ""},
}

// readCapabilities reads this thread's effective capabilities.
func readCapabilities() (capabilities, error) {
	f, err := os.Open("/proc/thread-self/status")
	if err != nil {
		return 0, fmt.Errorf("reading this process's capabilities: %w", err)
	}
	defer f.Close()
	return parseCapabilities(f)
}

func parseCapabilities(status io.Reader) (capabilities, error) {
	lines := bufio.NewScanner(status)
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), "CapEff:"); found {
			bits, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil {
				return 0, fmt.Errorf("reading this process's capabilities: %w", err)
			}
			return capabilities(bits), nil
		}
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("reading this process's capabilities: %w", err)
	}
	return 0, fmt.Errorf("reading this process's capabilities: no CapEff line")
}

// check returns an error where a required capability is missing, else what is
// worse without the others.
func (c capabilities) check() (warnings []string, err error) {
	var have, required, missing []string
	for _, n := range needed {
		ok := c.has(n.bit) || n.implied != 0 && c.has(n.implied)
		switch {
		case n.required:
			required = append(required, n.name)
			if ok {
				have = append(have, n.name)
			} else {
				missing = append(missing, n.name)
			}
		case ok:
			have = append(have, n.name)
		case n.without != "":
			warnings = append(warnings, n.without)
		}
	}
	if len(missing) == 0 {
		return warnings, nil
	}
	if len(have) == 0 {
		have = []string{"none"}
	}
	return nil, &Error{
		Kind: ErrPermission,
		What: fmt.Sprintf("needs %s (have: %s)", strings.Join(required, " and "), strings.Join(have, ", ")),
		fix:  "run it as root, or give it CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW (systemd: AmbientCapabilities=)",
	}
}
