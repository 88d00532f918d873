// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// What the linker sets (-X main.version=...): the release, the commit and the
// commit's time (RFC 3339), so that the same commit makes the same program on
// whatever day. Where it does not, Go's own record of the checkout is used.
var version, commit, date string

// versionItem is what `version` prints.
type versionItem struct {
	Version string `json:"version"`
	// Commit is that of the source, with "-dirty" where that was changed; Date is the
	// commit's. Both are empty for a build from no checkout.
	Commit   string    `json:"commit"`
	Date     time.Time `json:"date,omitzero"`
	Go       string    `json:"go"`
	Platform string    `json:"platform"`
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

func readVersion() versionItem {
	item := versionItem{Version: release(), Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	when := date
	if info, ok := debug.ReadBuildInfo(); ok && commit == "" {
		setting := make(map[string]string)
		for _, s := range info.Settings {
			setting[s.Key] = s.Value
		}
		item.Commit, when = setting["vcs.revision"], setting["vcs.time"]
		if setting["vcs.modified"] == "true" {
			item.Commit += "-dirty"
		}
	}
	item.Date, _ = time.Parse(time.RFC3339, when) // unknown stays zero
	return item
}

func newVersionCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show version and build information",
		Long: `version prints the release, the commit that it was built from, the time of that commit,
the Go version and the platform. Two builds of one commit are identical, byte for byte.`,
		Example: `  xdp-roam version
  xdp-roam version -o json`,
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return show(e, "Version", []versionItem{readVersion()}, []column[versionItem]{
				{name: "version", value: func(v versionItem) string { return v.Version }},
				{name: "commit", value: func(v versionItem) string { return e.shortCommit(v.Commit) }},
				{name: "date", value: func(v versionItem) string {
					if v.Date.IsZero() {
						return ""
					}
					return v.Date.UTC().Format(time.DateOnly)
				}},
				{name: "go", value: func(v versionItem) string { return v.Go }},
				{name: "platform", value: func(v versionItem) string { return v.Platform }},
			})
		},
	}
}

// shortCommit is a commit as git abbreviates it, unless all is asked for.
func (e *env) shortCommit(commit string) string {
	hash, mark, _ := strings.Cut(commit, "-")
	if e.format == formatWide || len(hash) <= 12 {
		return commit
	}
	if mark != "" {
		mark = "-" + mark
	}
	return hash[:12] + mark
}
