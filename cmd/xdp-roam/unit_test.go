// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"
)

// The user unit starts a command that exists, and is not started again where only
// a person can help.
func TestUserUnit(t *testing.T) {
	file, err := os.Open(filepath.Join(root, "packaging", "systemd", "xdp-roam-connect@.service"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	options, err := unit.DeserializeOptions(file)
	if err != nil {
		t.Fatal(err)
	}
	value := func(section, name string) string {
		i := slices.IndexFunc(options, func(o *unit.UnitOption) bool { return o.Section == section && o.Name == name })
		if i < 0 {
			t.Fatalf("no %s in [%s]", name, section)
		}
		return options[i].Value
	}
	e, _, _ := testEnv(formatTable)
	words := strings.Fields(value("Service", "ExecStart"))
	if command, _, err := newRootCommand(e).Find(words[1:]); err != nil || words[0] != "xdp-roam" || command.Name() != "connect" || words[2] != "%i" {
		t.Errorf("ExecStart=%q: %v", words, err)
	}
	want := "2 4 6" // exitUsage, exitPermission, exitConflict
	if got := value("Service", "RestartPreventExitStatus"); got != want || value("Service", "Restart") != "always" || value("Install", "WantedBy") != "default.target" {
		t.Errorf("RestartPreventExitStatus=%s, want %s", got, want)
	}
}
