// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// maxExposure is the worst score that the unit may get of `systemd-analyze security`, from
// 0 (nothing to lose) to 10. What is left of it is what an edge is: the host's network, its
// addresses and sockets, and four capabilities.
const maxExposure = 2.0

// The unit is understood by systemd, and exposes no more than an edge must.
func TestUnitSecurity(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		testutil.SkipOrFail(t, "no systemd-analyze (apt: systemd)")
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "systemd/xdp-roam.service").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found := regexp.MustCompile(`Overall exposure level for xdp-roam.service: ([0-9.]+)`).FindSubmatch(out)
	if found == nil {
		t.Fatalf("no score:\n%s", out)
	}
	if score, err := strconv.ParseFloat(string(found[1]), 64); err != nil || score > maxExposure {
		t.Errorf("exposure %s, at most %v:\n%s", found[1], maxExposure, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "Unknown") || strings.Contains(line, "Failed to parse") {
			t.Errorf("systemd does not take it: %s", line)
		}
	}
}

// The unit gives the four capabilities and no others, and is not started again where only
// a person can help.
func TestUnit(t *testing.T) {
	file, err := os.Open("systemd/xdp-roam.service")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	options, err := unit.DeserializeOptions(file)
	if err != nil {
		t.Fatal(err)
	}
	const four = "CAP_BPF CAP_PERFMON CAP_NET_ADMIN CAP_NET_RAW"
	for name, want := range map[string]string{
		"AmbientCapabilities": four, "CapabilityBoundingSet": four, "Type": "notify", "User": "xdp-roam",
		"LimitMEMLOCK": "infinity", "RestartPreventExitStatus": "2 4 5 6", "NoNewPrivileges": "yes",
		"ExecStart": "/usr/bin/xdp-roam run --config /etc/xdp-roam/edge.toml",
	} {
		i := slices.IndexFunc(options, func(o *unit.UnitOption) bool { return o.Section == "Service" && o.Name == name })
		if i < 0 || options[i].Value != want {
			t.Errorf("%s is not %q", name, want)
		}
	}
}

// What the container's recipe copies and runs is there, and what it makes needs nothing else.
// TestContainer builds its last stage; the first takes a base image and a network.
func TestContainerfile(t *testing.T) {
	text, err := os.ReadFile("Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	joined := strings.ReplaceAll(string(text), "\\\n", " ")
	var stages []string
	known := []string{"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENTRYPOINT", "CMD", "STOPSIGNAL"}
	for line := range strings.Lines(joined) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if !slices.Contains(known, words[0]) {
			t.Errorf("unknown instruction: %s", line)
		}
		switch {
		case words[0] == "FROM":
			stages = append(stages, words[1])
		case words[0] == "COPY" && !strings.HasPrefix(words[1], "--from="):
			for _, source := range words[1 : len(words)-1] {
				if _, err := os.Stat(filepath.Join("..", source)); err != nil {
					t.Errorf("COPY %s: %v", source, err)
				}
			}
		case words[0] == "RUN" && words[1] == "sh":
			if _, err := os.Stat(filepath.Join("..", words[2])); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	module, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	release := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(module)
	if want := fmt.Sprintf("docker.io/library/golang:%s-bookworm", release[1]); len(stages) != 2 || stages[0] != want || stages[1] != "scratch" {
		t.Errorf("stages %q, want %s and scratch", stages, want)
	}

	// The step that builds, as the recipe has it.
	program := filepath.Join(t.TempDir(), "xdp-roam")
	cmd := exec.Command("sh", "packaging/build.sh", program, runtime.GOARCH)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "VERSION=1.2.3", "COMMIT=0123456789ab", "DATE=2026-01-02T03:04:05Z")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("not static: %q %v", libraries, err)
	}
	out, err := exec.Command(program, "version").Output()
	if err != nil || !strings.Contains(string(out), "1.2.3    0123456789ab  2026-01-02") {
		t.Errorf("%v\n%s", err, out)
	}
}
