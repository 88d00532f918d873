// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// apt reads Debian's package lists: the machine's own, or those of another release
// beside them, in a directory of their own, so that nothing of the machine changes.
type apt []string

// backports are the lists of the release that has the newest kernels.
func backports(cache string) (apt, error) {
	dir, err := filepath.Abs(filepath.Join(cache, "apt"))
	if err != nil {
		return nil, err
	}
	sources := filepath.Join(dir, "sources.list")
	if err := os.MkdirAll(filepath.Join(dir, "lists", "partial"), 0o755); err != nil {
		return nil, err
	}
	const line = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie-backports main\n"
	if err := os.WriteFile(sources, []byte(line), 0o644); err != nil {
		return nil, err
	}
	a := apt{
		"-o", "Dir::Etc::SourceList=" + sources, "-o", "Dir::Etc::SourceParts=/dev/null",
		"-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + dir,
		"-o", "Acquire::Retries=5", "-o", "APT::Sandbox::User=root",
	}
	if out, err := exec.Command("apt-get", append(a, "-qq", "update")...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("apt-get update of trixie-backports: %w\n%s", err, out)
	}
	return a, nil
}

// search returns the names of the packages that match.
func (a apt) search(pattern string) ([]string, error) {
	out, err := exec.Command("apt-cache", append(a, "search", "--names-only", pattern)...).Output()
	if err != nil {
		return nil, fmt.Errorf("apt-cache search: %w (run apt-get update first)", err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		names = append(names, strings.Fields(line)[0])
	}
	return names, nil
}

// unpack downloads packages and unpacks them into one directory.
func (a apt) unpack(into string, names ...string) error {
	download, err := os.MkdirTemp(filepath.Dir(into), "download-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(download)
	get := exec.Command("apt-get", append(slices.Concat(a, apt{"-o", "Acquire::Retries=5", "download"}), names...)...)
	get.Dir = download
	if out, err := get.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download %s: %w\n%s", strings.Join(names, " "), err, out)
	}
	debs, err := filepath.Glob(filepath.Join(download, "*.deb"))
	if err != nil {
		return err
	}
	unpacked := filepath.Join(download, "tree")
	for _, deb := range debs {
		if out, err := exec.Command("dpkg-deb", "-x", deb, unpacked).CombinedOutput(); err != nil {
			return fmt.Errorf("dpkg-deb -x: %w\n%s", err, out)
		}
	}
	return os.Rename(unpacked, into)
}

// fetch downloads and unpacks the newest cloud kernel of a series, once: of this
// Debian, or else of a newer one.
func fetch(series, cache string) (string, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	tree, err := filepath.Abs(filepath.Join(cache, series))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(tree, "boot")); err == nil {
		return tree, nil
	}
	var here apt
	names, err := newest(here, series)
	if err != nil {
		return "", err
	}
	if len(names) > 0 {
		return tree, here.unpack(tree, names...)
	}
	newer, err := backports(cache)
	if err != nil {
		return "", fmt.Errorf("this Debian has no kernel %s (run apt-get update first), and the backports cannot be read: %w", series, err)
	}
	if names, err = newest(newer, series); err != nil {
		return "", err
	}
	if len(names) == 0 {
		all, _ := newer.search(`^linux-(image|binary)-[0-9].*cloud-amd64$`)
		return "", fmt.Errorf("neither this Debian nor trixie-backports has a kernel %s; -kernel takes the series of one of these: %s", series, strings.Join(all, " "))
	}
	return tree, newer.unpack(tree, names...)
}

// newest returns the packages that make the newest cloud kernel of a series: one, or
// since 6.19 one with the kernel and one with its modules. None: there is no such kernel.
func newest(a apt, series string) ([]string, error) {
	quoted := regexp.QuoteMeta(series)
	names, err := a.search("^linux-binary-" + quoted + `\..*cloud-amd64$`)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		// Unsigned ones where there are any, which are of the same build.
		if names, err = a.search("^linux-image-" + quoted + `\..*cloud-amd64-unsigned$`); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		if names, err = a.search("^linux-image-" + quoted + `\..*cloud-amd64$`); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	slices.SortFunc(names, func(a, b string) int {
		if exec.Command("dpkg", "--compare-versions", a, "lt", b).Run() == nil {
			return -1
		}
		return 1
	})
	name := names[len(names)-1]
	if version, split := strings.CutPrefix(name, "linux-binary-"); split {
		return []string{name, "linux-modules-" + version}, nil
	}
	return []string{name}, nil
}

func one(pattern string) (string, error) {
	m, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	if len(m) != 1 {
		return "", fmt.Errorf("%s matches %d files, want 1", pattern, len(m))
	}
	return m[0], nil
}
