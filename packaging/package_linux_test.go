// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// debianBlocks are the commands of docs/OPERATIONS.md for a Debian server.
func debianBlocks(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(# on a Debian server, as root\n.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, "cd /\n"+block[1])
	}
	if len(blocks) != 2 {
		t.Fatalf("docs/OPERATIONS.md has %d blocks for a Debian server; this test runs two, to install and to start", len(blocks))
	}
	return blocks
}

// TestInstalledPackage installs the Debian package on a machine of namespaces, in which
// a systemd of its own is process 1, starts the edge by its unit, and removes both.
func TestInstalledPackage(t *testing.T) {
	deb := os.Getenv("XDP_ROAM_DEB")
	if deb == "" {
		t.Skip("XDP_ROAM_DEB names no package: make test-package builds it and runs this")
	}
	m := newMachine(t)
	m.put(deb, "/xdp-roam_0_test.deb")
	documented := debianBlocks(t)
	m.run("sh", "-euc", documented[0]) // installs it and makes a key

	// Files, and who owns them.
	for _, file := range []string{
		"/usr/share/man/man1/xdp-roam-run.1.gz", "/usr/share/bash-completion/completions/xdp-roam", "/usr/lib/systemd/user/xdp-roam-connect@.service",
		"/usr/share/doc/xdp-roam/sbom.cdx.json", "/etc/xdp-roam/authorized_keys",
	} {
		m.run("test", "-f", file)
	}
	m.want(m.run("dpkg-query", "-W", "-f", "${Conffiles}", "xdp-roam"), "/etc/xdp-roam/edge.toml", "/etc/xdp-roam/authorized_keys")
	m.want(m.run("getent", "passwd", "xdp-roam"), "/usr/sbin/nologin")
	m.want(m.run("man", "--where", "xdp-roam-run"), "/usr/share/man/man1/xdp-roam-run.1.gz")

	// Without a key it does not start, and that is no failure.
	m.run("mv", "/etc/xdp-roam/server.key", "/etc/xdp-roam/away.key")
	m.run("systemctl", "start", "xdp-roam")
	m.want(m.run("systemctl", "show", "-P", "ActiveState", "xdp-roam"), "inactive")
	m.run("mv", "/etc/xdp-roam/away.key", "/etc/xdp-roam/server.key")

	m.run("sh", "-c", "ip link set lo up && ip link add eth0 type veth peer name wire0 && ip link set eth0 up && ip link set wire0 up")
	// Not afxdp: where the test's machine may not raise RLIMIT_MEMLOCK, its systemd may not either.
	m.run("sed", "-i", `s/^interfaces = .*/interfaces = ["eth0"]\nmode = "xdp"/`, "/etc/xdp-roam/edge.toml")
	m.run("sh", "-c", `echo "$(xdp-roam keygen | xdp-roam pubkey) alice" >> /etc/xdp-roam/authorized_keys`)
	m.run("mkdir", "-p", "/etc/systemd/system/xdp-roam.service.d")
	m.run("sh", "-c", `printf '[Service]\nStandardError=append:/run/edge.log\n' > /etc/systemd/system/xdp-roam.service.d/log.conf`)
	m.run("systemctl", "daemon-reload")
	m.log = "/run/edge.log"
	m.want(m.run("sh", "-euc", documented[1]), "active (running)") // checks the configuration, enables and starts it

	// It is what it should be: attached, by a user with four capabilities and no more.
	m.want(m.run("xdp-roam", "status"), "eth0", "attached, native")
	m.want(m.run("systemctl", "show", "-P", "StatusText", "xdp-roam"), "mode xdp (native) on eth0, 0 sessions")
	m.want(m.run("systemctl", "show", "-P", "LimitMEMLOCK", "-P", "WatchdogUSec", "xdp-roam"), "infinity", "30s")
	pid := strings.TrimSpace(m.run("systemctl", "show", "-P", "MainPID", "xdp-roam"))
	m.want(m.run("ps", "-o", "user=", "-p", pid), "xdp-roam")
	// CAP_NET_ADMIN 12, CAP_NET_RAW 13, CAP_PERFMON 38, CAP_BPF 39
	const four = "000000c000003000"
	m.want(m.run("grep", "-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/"+pid+"/status"),
		"CapPrm:\t"+four, "CapEff:\t"+four, "CapBnd:\t"+four, "CapAmb:\t"+four, "NoNewPrivs:\t1", "Seccomp:\t2")
	m.want(m.run("stat", "-c", "%U %a", "/sys/fs/bpf/xdp-roam", "/var/lib/xdp-roam", "/run/xdp-roam/default.sock"), "xdp-roam 700", "xdp-roam 600")
	m.want(m.run("stat", "-c", "%U %a", "/etc/xdp-roam/server.key"), "root 640")
	m.want(m.run("xdp-roam", "upgrade"), "exchanged")
	m.run("systemctl", "reload", "xdp-roam")
	m.until("it has read its list again", func() bool { return strings.Contains(m.run("cat", m.log), "authorized_keys was read again") })

	// A process that is gone without a word is started anew, and adopts what it left.
	m.run("kill", "-KILL", pid)
	m.until("another process is ready", func() bool {
		now := strings.Fields(m.run("systemctl", "show", "-P", "MainPID", "-P", "ActiveState", "xdp-roam"))
		return len(now) == 2 && now[0] != pid && now[0] != "0" && now[1] == "active"
	})
	m.want(m.run("cat", m.log), "adopted the pinned maps")
	m.want(m.run("xdp-roam", "status"), "attached, native")

	m.run("dpkg", "--remove", "xdp-roam")
	m.run("sh", "-c", "! test -e /usr/bin/xdp-roam && ! test -e /run/xdp-roam && test -f /etc/xdp-roam/edge.toml && test -f /etc/xdp-roam/server.key")
	if left := m.run("sh", "-c", "ls /sys/fs/bpf/xdp-roam; ip link show eth0 | grep xdp || true"); strings.TrimSpace(left) != "" {
		t.Errorf("left behind: %s", left)
	}
	m.run("dpkg", "--purge", "xdp-roam")
	m.run("sh", "-c", "! test -e /etc/xdp-roam && ! test -e /var/lib/xdp-roam")
}
