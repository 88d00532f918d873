// SPDX-License-Identifier: Apache-2.0

// Command sbom writes what a Go program was made of as CycloneDX JSON: the
// modules that the linker recorded in the program itself, not those that a
// go.mod might bring. It is a module of its own, so that its library is none of
// the product's.
//
//	sbom PROGRAM VERSION TIME > xdp-roam.cdx.json
//
// The same program gives the same document: TIME (RFC 3339) is the commit's.
package main

import (
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: sbom PROGRAM VERSION TIME")
		os.Exit(2)
	}
	info, err := buildinfo.ReadFile(os.Args[1])
	if err == nil {
		err = write(os.Stdout, info, os.Args[2], os.Args[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func write(w io.Writer, info *debug.BuildInfo, version, time string) error {
	bom := cdx.NewBOM()
	subject := component(info.Main.Path, version, cdx.ComponentTypeApplication)
	bom.Metadata = &cdx.Metadata{Timestamp: time, Component: &subject}
	parts := []cdx.Component{component("std", strings.TrimPrefix(info.GoVersion, "go"), cdx.ComponentTypeLibrary)}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		part := component(m.Path, m.Version, cdx.ComponentTypeLibrary)
		// Go's own sum of the module's tree (golang.org/x/mod/sumdb/dirhash), as in go.sum.
		part.Properties = &[]cdx.Property{{Name: "go:sum", Value: m.Sum}}
		parts = append(parts, part)
	}
	bom.Components = &parts
	var needs []string
	for _, part := range parts {
		needs = append(needs, part.BOMRef)
	}
	bom.Dependencies = &[]cdx.Dependency{{Ref: subject.BOMRef, Dependencies: &needs}}
	encoder := cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON)
	return encoder.SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
}

// component names a module by its package URL (purl-spec, type golang).
func component(path, version string, kind cdx.ComponentType) cdx.Component {
	purl := "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
	return cdx.Component{BOMRef: purl, Type: kind, Name: path, Version: version, PackageURL: purl, Scope: cdx.ScopeRequired}
}
