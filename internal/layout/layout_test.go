// SPDX-License-Identifier: Apache-2.0

// Package layout tests that the source tree keeps the shape that docs/ARCHITECTURE.md draws.
package layout

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/xdp-roam/xdp-roam/"

// allowed lists, for each package, the packages of ours that it may import.
// Imports point one way only; a package that is missing here fails the test,
// so that a new one gets its place in the picture first.
var allowed = map[string][]string{
	"bpf":                           {},
	"maps":                          {"bpf", "internal/prefetch"},
	"loader":                        {"loader/ethtool", "maps", "bpf", "internal/rtdump"},
	"loader/doctor":                 {"loader", "loader/ethtool", "maps", "internal/rtdump"},
	"loader/ethtool":                {},
	"userspace/wire":                {},
	"userspace/handshake":           {"userspace/wire"},
	"userspace/session":             {"userspace/wire", "userspace/handshake", "internal/prefetch"},
	"userspace/netio":               {},
	"userspace/service":             {"userspace/wire", "userspace/handshake", "userspace/inbox", "userspace/stream", "userspace/relay"},
	"userspace/stream":              {},
	"userspace/relay":               {"userspace/stream"},
	"userspace/inbox":               {},
	"userspace/server":              {"userspace/wire", "userspace/session", "userspace/handshake", "userspace/netio", "userspace/inbox", "internal/prefetch", "internal/hugepages", "maps"},
	"userspace/afxdp":               {"maps", "userspace/netio", "userspace/server"},
	"userspace/client":              {"userspace/wire", "userspace/session", "userspace/handshake", "userspace/netio", "userspace/inbox", "internal/rtdump"},
	"userspace/control":             {"userspace/wire", "userspace/handshake"},
	"userspace/metrics":             {"maps", "userspace/netio", "userspace/server", "userspace/service", "userspace/wire"},
	"userspace/web":                 {},
	"internal/prefetch":             {},
	"internal/hugepages":            {},
	"internal/rtdump":               {},
	"internal/testutil":             {},
	"internal/lab":                  {"internal/rtdump"},
	"internal/load":                 {},
	"internal/demo":                 {"internal/lab", "userspace/client", "userspace/control", "userspace/handshake", "userspace/wire", "maps"},
	"internal/layout":               {},
	"packaging":                     {},
	"vagrant/kernels":               {"internal/lab"},
	"vagrant/kernels/init":          {},
	"internal/bench/report":         {},
	"internal/bench/harness":        {"bpf", "maps"},
	"internal/bench/network":        {"internal/bench/harness", "internal/lab"},
	"internal/bench/intake":         {"internal/bench/harness", "internal/bench/network", "internal/bench/report", "bpf", "maps", "userspace/netio", "userspace/wire"},
	"internal/bench/dataplane":      {"internal/bench/harness", "internal/bench/report", "bpf", "userspace/wire", "userspace/handshake"},
	"cmd/xdp-roam":                  {"*"},
	"cmd/xdp-roam/internal/config":  {"userspace/handshake", "userspace/server", "userspace/service", "loader"},
	"cmd/xdp-roam/internal/forward": {"userspace/wire", "userspace/inbox", "userspace/stream", "userspace/relay"},

	"examples":          {},
	"examples/chat":     {"userspace/handshake", "userspace/relay", "userspace/server", "userspace/stream", "userspace/wire"},
	"examples/recvfile": {"userspace/handshake", "userspace/server", "userspace/stream", "userspace/wire"},
	"examples/sendfile": {"userspace/client", "userspace/handshake", "userspace/stream", "userspace/wire"},

	"cmd/xdp-roam/internal/capture":   {"userspace/control"},
	"cmd/xdp-roam/internal/authority": {"cmd/xdp-roam/internal/config", "userspace/handshake", "userspace/server"},
	"cmd/xdp-roam/internal/known":     {"userspace/client", "userspace/handshake"},
	"cmd/xdp-roam/internal/profile":   {"cmd/xdp-roam/internal/config", "cmd/xdp-roam/internal/forward", "userspace/client", "userspace/handshake"},
}

func TestImportsPointOneWay(t *testing.T) {
	out, err := goList("-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		pkg, ours := strings.CutPrefix(f[0], module)
		if !ours {
			continue
		}
		seen++
		may, listed := allowed[pkg]
		if !listed {
			t.Errorf("package %s has no place in the layout: add it here and to docs/ARCHITECTURE.md", pkg)
			continue
		}
		for _, imp := range f[1:] {
			dep, ours := strings.CutPrefix(imp, module)
			if ours && !slices.Contains(may, dep) && !slices.Contains(may, "*") {
				t.Errorf("%s imports %s, which the layout does not allow", pkg, dep)
			}
		}
	}
	if seen < 10 {
		t.Fatalf("go list named only %d packages of ours: the test looks at the wrong place", seen)
	}
}

func TestEveryFileNamesItsLicence(t *testing.T) {
	root := filepath.Join("..", "..")
	files, err := exec.Command("git", "-C", root, "ls-files", "*.go", "*.c", "*.h").Output()
	if err != nil {
		t.Skip("not a git checkout: ", err)
	}
	for name := range strings.Lines(string(files)) {
		name = strings.TrimSpace(name)
		want := "SPDX-License-Identifier: Apache-2.0"
		switch {
		case strings.HasSuffix(name, "_bpfel.go"), strings.HasSuffix(name, "_bpfeb.go"):
			continue // generated
		case strings.HasPrefix(name, "bpf/headers/"):
			want = "SPDX-License-Identifier" // libbpf's own
		case !strings.HasSuffix(name, ".go"):
			want = "SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)"
		}
		head, err := firstLines(filepath.Join(root, name), 8)
		if err != nil {
			continue // removed in the working tree
		}
		if strings.HasPrefix(name, "bpf/headers/") && bytes.Contains(head, []byte("auto-generated")) {
			continue // bpf_helper_defs.h carries no header upstream
		}
		if !bytes.Contains(head, []byte(want)) {
			t.Errorf("%s: its first lines lack %q", name, want)
		}
	}
}

func firstLines(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	for s := bufio.NewScanner(f); n > 0 && s.Scan(); n-- {
		b.Write(s.Bytes())
		b.WriteByte('\n')
	}
	return b.Bytes(), nil
}

func goList(args ...string) (string, error) {
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return string(out), err
}
