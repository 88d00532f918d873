// SPDX-License-Identifier: Apache-2.0

//go:build linux

package loader

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/xdp-roam/xdp-roam/maps"
)

func TestDiagnose(t *testing.T) {
	nic := &Interface{Name: "eth0", Kind: "device", Driver: "e1000", MTU: 1500, Encap: "ether"}
	big := &Interface{Name: "eth0", Driver: "ixgbe", MTU: 9000, Encap: "ether"}
	taken := &Interface{Name: "eth0", Encap: "ether", XDP: &AttachedProgram{ID: 42, Name: "xdp_filter"}}
	refused := &ebpf.VerifierError{Cause: unix.EACCES, Log: []string{
		"0: (79) r0 = *(u64 *)(r1 +0)", "R1 invalid mem access 'scalar'", "processed 1 insns (limit 1000000)",
	}}
	for _, test := range []struct {
		name  string
		op    operation
		errno error
		facts facts
		kind  error
		words []string
	}{
		{"no native XDP", opAttach, unix.EOPNOTSUPP, facts{nic: nic, mode: ModeXDP}, ErrUnsupported, []string{"eth0", "driver e1000 has no native XDP", "--mode generic", "slower"}},
		{"MTU by EINVAL", opAttach, unix.EINVAL, facts{nic: big, mode: ModeXDP}, ErrUnsupported, []string{"MTU", "9000", fmt.Sprint(mtuLimit())}},
		{"MTU by ERANGE", opAttach, unix.ERANGE, facts{nic: nic, mode: ModeXDP}, ErrUnsupported, []string{"MTU", "1500"}},
		{"other EINVAL", opAttach, unix.EINVAL, facts{nic: nic, mode: ModeXDP}, ErrUnsupported, []string{"lro off"}},
		{"queues", opAttach, unix.ENOSPC, facts{nic: nic, mode: ModeXDP}, ErrUnsupported, []string{"queues", "ethtool -L eth0"}},
		{"taken", opAttach, unix.EBUSY, facts{nic: taken, mode: ModeXDP}, ErrConflict, []string{`"xdp_filter"`, "42", "bpftool link"}},
		{"taken meanwhile", opAttach, unix.EEXIST, facts{nic: nic, mode: ModeXDP}, ErrConflict, []string{"another XDP program"}},
		{"gone", opAttach, unix.ENODEV, facts{nic: nic, mode: ModeXDP}, ErrNoInterface, []string{"eth0"}},
		{"not permitted", opAttach, unix.EPERM, facts{nic: nic, mode: ModeXDP}, ErrPermission, []string{"root", "seccomp"}},
		{"maps not permitted", opCreate, unix.EPERM, facts{slots: 64}, ErrPermission, []string{"maps", "capabilities"}},
		{"verifier", opLoad, refused, facts{}, ErrUnsupported, []string{"verifier", "R1 invalid mem access 'scalar'", "report"}},
		{"program not permitted", opLoad, unix.EPERM, facts{}, ErrPermission, []string{"programs"}},
		{"schema", opAdopt, &maps.SchemaError{Pinned: 3, Own: 4}, facts{dir: "/d"}, ErrConflict, []string{"schema 3", "schema 4", "unload", "/d"}},
		{"half gone", opAdopt, unix.ENOENT, facts{dir: "/d"}, ErrConflict, []string{"missing", "unload"}},
		{"other make", opReplace, unix.EINVAL, facts{nic: nic}, ErrConflict, []string{"eth0", "unload"}},
		{"pins not permitted", opPin, unix.EACCES, facts{dir: "/d"}, ErrPermission, []string{"/d", "root"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := diagnose(test.op, fmt.Errorf("failed to attach link: %w", test.errno), test.facts)
			wantError(t, err, test.kind, test.words...)
			if errors.Is(err, ErrConflict) && test.op == opAttach {
				return // the kernel's word adds nothing to whose program it is
			}
			if !errors.Is(err, test.errno) {
				t.Errorf("%v has lost %v", err, test.errno)
			}
			if _, verifier := test.errno.(*ebpf.VerifierError); !verifier && !strings.HasSuffix(err.Error(), test.errno.Error()) {
				t.Errorf("%q does not end with what the kernel said", err)
			}
		})
	}
}

func TestDiagnoseMemory(t *testing.T) {
	for _, errno := range []error{unix.ENOMEM, unix.E2BIG} {
		err := diagnose(opCreate, errno, facts{slots: 1 << 23})
		for _, word := range []string{"8388608 slots", "512 MiB", errno.Error()} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q does not say %q", err, word)
			}
		}
	}
}

func TestDiagnoseKeepsADiagnosis(t *testing.T) {
	inner := &Error{Kind: ErrConflict, What: "the first word"}
	if err := diagnose(opAttach, fmt.Errorf("more: %w", inner), facts{}); err.Error() != "more: the first word" {
		t.Errorf("got %q", err)
	}
	if diagnose(opAttach, nil, facts{}) != nil {
		t.Error("a diagnosis of nothing")
	}
}

func TestWarning(t *testing.T) {
	for _, test := range []struct {
		name string
		nic  Interface
		mode Mode
		want string // "" is none
	}{
		{"NIC", Interface{Name: "eth0", Kind: "device"}, ModeXDP, ""},
		{"VLAN, tags hidden", Interface{Name: "eth0", Kind: "device", Untagged: "eth0.10"}, ModeXDP, "eth0.10 leaves without its tag; `ethtool -K eth0 rxvlan off`"},
		{"generic keeps the tag", Interface{Name: "eth0", Kind: "device", Untagged: "eth0.10"}, ModeGeneric, ""},
		{"veth", Interface{Name: "eth0", Kind: "veth"}, ModeXDP, "the pair's other end"},
		{"veth, generic", Interface{Name: "eth0", Kind: "veth"}, ModeGeneric, ""},
	} {
		if got := test.nic.warning(test.mode); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestCheckXDP(t *testing.T) {
	ether := Interface{Name: "eth0", Kind: "device", Driver: "mlx5_core", MTU: 1500, Encap: "ether", Native: SupportYes}
	with := func(change func(*Interface)) *Interface {
		nic := ether
		change(&nic)
		return &nic
	}
	for name, test := range map[string]struct {
		nic    *Interface
		native string // words of the refusal, "" none
		both   bool   // generic is refused too
	}{
		"fine":         {&ether, "", false},
		"old kernel":   {with(func(n *Interface) { n.Native = SupportUnknown }), "", false},
		"no native":    {with(func(n *Interface) { n.Native = SupportNo; n.Driver = "e1000" }), "driver e1000 has no native XDP", false},
		"VLAN":         {with(func(n *Interface) { n.Parent = "eth9" }), "parent eth9", true},
		"bonded":       {with(func(n *Interface) { n.Master = "bond0" }), "bond bond0", true},
		"layer 3":      {with(func(n *Interface) { n.Encap = "none"; n.Kind = "wireguard" }), "layer 3 device (wireguard)", true},
		"loopback":     {with(func(n *Interface) { n.Encap = "loopback" }), "no native XDP", false},
		"veth's MTU":   {with(func(n *Interface) { n.Driver = "veth"; n.MTU = 9000 }), "MTU 9000", false},
		"driver's MTU": {with(func(n *Interface) { n.MTU = 9000 }), "", false}, // the driver may have larger buffers
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.nic.checkXDP(ModeXDP); test.native == "" {
				if err != nil {
					t.Error(err)
				}
				if mode, reason, err := choose(test.nic, ModeAuto, false); mode != ModeXDP || reason == "" || err != nil {
					t.Errorf("auto: %s (%s), %v", mode, reason, err)
				}
			} else {
				wantError(t, err, ErrUnsupported, "eth0", test.native)
				if mode, reason, err := choose(test.nic, ModeAuto, true); mode != ModeSocket || !strings.HasPrefix(reason, "no XDP: ") || err != nil {
					t.Errorf("auto: %s (%s), %v", mode, reason, err)
				}
			}
			if err := test.nic.checkXDP(ModeGeneric); (err != nil) != test.both {
				t.Errorf("generic: %v", err)
			}
		})
	}
}

func TestCapabilities(t *testing.T) {
	parse := func(eff string) capabilities {
		t.Helper()
		c, err := parseCapabilities(strings.NewReader("Name:\tx\nCapPrm:\tffff\nCapEff:\t" + eff + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	_, err := parse("0000000000000000").check()
	wantError(t, err, ErrPermission, "needs CAP_BPF and CAP_NET_ADMIN (have: none)", "AmbientCapabilities")
	_, err = parse("0000008000000000").check() // CAP_BPF
	wantError(t, err, ErrPermission, "(have: CAP_BPF)")
	_, err = parse("0000000000001000").check() // CAP_NET_ADMIN
	wantError(t, err, ErrPermission, "(have: CAP_NET_ADMIN)")
	for eff, warnings := range map[string]int{
		"000000c000003000": 0, // the unit's four
		"0000008000001000": 1, // without CAP_PERFMON
		"0000000000201000": 0, // CAP_SYS_ADMIN stands for both
		"000001ffffffffff": 0,
	} {
		got, err := parse(eff).check()
		if err != nil || len(got) != warnings {
			t.Errorf("%s: %q, %v", eff, got, err)
		}
	}
	for _, bad := range []string{"", "CapEff:\tzz\n"} {
		if _, err := parseCapabilities(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	if _, err := readCapabilities(); err != nil {
		t.Error(err)
	}
}

func TestFindLock(t *testing.T) {
	const locks = `1: POSIX  ADVISORY  WRITE 11 00:2a:5678 0 EOF
2: FLOCK  ADVISORY  WRITE 1234 00:2a:5678 0 EOF
2: -> FLOCK  ADVISORY  WRITE 99 00:2a:5679 0 EOF
3: FLOCK  ADVISORY  WRITE -1 00:2a:5680 0 EOF
`
	for file, want := range map[string]int{"00:2a:5678": 1234, "00:2a:5679": 0, "00:2a:5680": 0, "00:2a:1": 0} {
		if got := findLock(strings.NewReader(locks), file); got != want {
			t.Errorf("%s: %d, want %d", file, got, want)
		}
	}
}

func TestParseMode(t *testing.T) {
	for name, want := range map[string]Mode{"auto": ModeAuto, "xdp": ModeXDP, "native": ModeXDP, "generic": ModeGeneric, "socket": ModeSocket, "afxdp": ModeAFXDP} {
		if got, err := ParseMode(name); got != want || err != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if _, err := ParseMode("fast"); err == nil || !strings.Contains(err.Error(), "auto, afxdp, xdp, generic, socket") {
		t.Errorf("fast: %v", err)
	}
	if err := Mode("fast").available(true); err == nil {
		t.Error("mode fast is available")
	}
}

func TestPinNames(t *testing.T) {
	p, err := (&Options{Instance: "a"}).pins()
	if err != nil || p.root != "/sys/fs/bpf/xdp-roam/a" {
		t.Fatalf("%+v, %v", p, err)
	}
	for _, name := range []string{"eth0", "eth0.100", "a%2Eb", "%", "..x"} {
		pin := pinEscapes.Replace(name)
		if strings.Contains(pin, ".") || pinUnescapes.Replace(pin) != name {
			t.Errorf("%q is pinned as %q, read as %q", name, pin, pinUnescapes.Replace(pin))
		}
	}
	for _, bad := range []string{"a.b", "..", "a/b", "x y", strings.Repeat("a", 33)} {
		if _, err := (&Options{Instance: bad}).pins(); err == nil {
			t.Errorf("instance %q was taken", bad)
		}
	}
}
