// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"runtime/debug"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// Every module of the program is named as what was linked, and two runs agree.
func TestEveryModuleIsNamed(t *testing.T) {
	info := &debug.BuildInfo{
		GoVersion: "go1.26.0", Main: debug.Module{Path: "example.net/product"},
		Deps: []*debug.Module{
			{Path: "example.net/a", Version: "v1.0.0+incompatible", Sum: "h1:a"},
			{Path: "example.net/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.net/fork", Version: "v2.0.0", Sum: "h1:f"}},
		},
	}
	var first, second bytes.Buffer
	for _, b := range []*bytes.Buffer{&first, &second} {
		if err := write(b, info, "1.2.3", "2026-01-02T03:04:05Z"); err != nil {
			t.Fatal(err)
		}
	}
	if first.String() != second.String() {
		t.Errorf("two runs differ:\n%s\n%s", &first, &second)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(&first, cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	want := []string{"pkg:golang/std@1.26.0", "pkg:golang/example.net/a@v1.0.0%2Bincompatible", "pkg:golang/example.net/fork@v2.0.0"}
	if bom.SpecVersion != cdx.SpecVersion1_6 || bom.Metadata.Component.PackageURL != "pkg:golang/example.net/product@1.2.3" || len(*bom.Components) != len(want) {
		t.Fatalf("%v %+v, %d components", bom.SpecVersion, bom.Metadata.Component, len(*bom.Components))
	}
	for i, part := range *bom.Components {
		if part.PackageURL != want[i] || (*(*bom.Dependencies)[0].Dependencies)[i] != want[i] {
			t.Errorf("component %d is %s, want %s", i, part.PackageURL, want[i])
		}
	}
}
