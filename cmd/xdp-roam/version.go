// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker (-X main.version=...).
var version string

// versionItem is what `version` prints.
type versionItem struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// release names this build.
func release() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

func newVersionCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Which build this is",
		Args:  arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			item := versionItem{Version: release(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			return show(e, "Version", []versionItem{item}, []column[versionItem]{
				{name: "version", value: func(v versionItem) string { return v.Version }},
				{name: "go", value: func(v versionItem) string { return v.Go }},
				{name: "platform", value: func(v versionItem) string { return v.Platform }},
			})
		},
	}
}
