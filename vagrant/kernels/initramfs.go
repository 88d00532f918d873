// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// buildInitramfs packs init, the modules, each package's test binary and the sources and fixtures that tests read.
func (p *plan) buildInitramfs(file, work, tree string) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	ar := newArchive(out)

	if err := goBuild(filepath.Join(work, "init"), "build", "./vagrant/kernels/init"); err != nil {
		return err
	}
	if err := ar.file("init", filepath.Join(work, "init"), 0o755); err != nil {
		return err
	}
	modules, err := modulesFor(p.modules, tree, work)
	if err != nil {
		return err
	}
	for i, m := range modules {
		if err := ar.file(fmt.Sprintf("modules/%02d-%s", i, filepath.Base(m)), m, 0o644); err != nil {
			return err
		}
	}
	for _, s := range p.suites {
		if err := s.pack(ar, work); err != nil {
			return err
		}
	}
	if err := ar.tree("src/testdata", "testdata"); err != nil {
		return err
	}
	return ar.close()
}

func (s *suite) pack(ar *archive, work string) error {
	name := filepath.Base(s.dir)
	bin := filepath.Join(work, name+".test")
	if err := goBuild(bin, "test", "-c", "./"+s.dir); err != nil {
		return err
	}
	if err := ar.file(path.Join("tests", name, "test"), bin, 0o755); err != nil {
		return err
	}
	args := filepath.Join(work, name+".args")
	if err := os.WriteFile(args, []byte(strings.Join(s.args, "\n")), 0o644); err != nil {
		return err
	}
	if err := ar.file(path.Join("tests", name, "args"), args, 0o644); err != nil {
		return err
	}
	// Tests read sources and fixtures relative to their directory.
	return ar.tree(path.Join("src", name), s.dir)
}

func goBuild(out, verb string, args ...string) error {
	cmd := exec.Command("go", append([]string{verb, "-o", out}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s %s: %w\n%s", verb, strings.Join(args, " "), err, msg)
	}
	return nil
}

// modulesFor returns uncompressed copies of modules and of what they depend on, which
// comes first. A dependency is never built in: the build leaves such out.
func modulesFor(names []string, tree, work string) (files []string, err error) {
	for _, name := range names {
		file, err := findModule(tree, name, work)
		if err != nil {
			return nil, err
		}
		needs, err := dependencies(file)
		if err != nil {
			return nil, err
		}
		before, err := modulesFor(needs, tree, work)
		if err != nil {
			return nil, err
		}
		for _, f := range append(before, file) {
			if !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
	}
	return files, nil
}

// dependencies reads what modinfo shows as "depends".
func dependencies(module string) ([]string, error) {
	f, err := elf.Open(module)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", module, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("module %s has no .modinfo", module)
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", module, err)
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if names, ok := strings.CutPrefix(field, "depends="); ok && names != "" {
			return strings.Split(names, ","), nil
		}
	}
	return nil, nil
}

// findModule returns an uncompressed copy of a module, or an error where the kernel package has none.
func findModule(tree, name, work string) (string, error) {
	var found string
	err := filepath.WalkDir(tree, func(p string, _ fs.DirEntry, err error) error {
		if b := filepath.Base(p); err == nil && (b == name+".ko" || b == name+".ko.xz") {
			found = p
		}
		return err
	})
	if err != nil {
		return "", err
	}
	if found == "" {
		return "", fmt.Errorf("module %s is not in the kernel package", name)
	}
	if !strings.HasSuffix(found, ".xz") {
		return found, nil
	}
	plain := filepath.Join(work, name+".ko")
	out, err := exec.Command("xz", "-dc", found).Output()
	if err != nil {
		return "", fmt.Errorf("xz -dc %s: %w", found, err)
	}
	return plain, os.WriteFile(plain, out, 0o644)
}
