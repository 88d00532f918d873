// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command kernels runs the data plane's privileged tests on other kernels:
// it takes Debian's cloud kernels, packs the test binaries with a one-process
// init into an initramfs and boots that under qemu (emulated: no /dev/kvm needed).
//
//	go run ./vagrant/kernels            # 6.1, the oldest kernel supported
//	go run ./vagrant/kernels -kernel 6.1 -kernel 6.12
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// packages are what runs on each kernel: everything that talks to the kernel through BPF or AF_XDP.
var packages = []string{"bpf", "maps", "loader", "userspace/netio"}

// modules are what those tests need and Debian's cloud kernels build as modules, in order of insertion.
var modules = []string{"veth"}

type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	var kernels list
	flag.Var(&kernels, "kernel", "Debian cloud kernel series, may be repeated (default 6.1)")
	timeout := flag.Duration("timeout", 25*time.Minute, "for each kernel")
	cache := flag.String("cache", ".cache/kernels", "where downloaded kernels are kept")
	flag.Parse()
	if len(kernels) == 0 {
		kernels = list{"6.1"}
	}
	for _, k := range kernels {
		if err := testOn(k, *cache, *timeout); err != nil {
			fmt.Fprintf(os.Stderr, "kernels: %s: %v\n", k, err)
			os.Exit(1)
		}
	}
}

func testOn(series, cache string, timeout time.Duration) error {
	work, err := os.MkdirTemp("", "xdp-roam-kernel-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	tree, err := fetch(series, cache)
	if err != nil {
		return err
	}
	image, err := one(filepath.Join(tree, "boot", "vmlinuz-*"))
	if err != nil {
		return err
	}
	initrd := filepath.Join(work, "initrd")
	if err := buildInitramfs(initrd, work, tree); err != nil {
		return err
	}
	return boot(image, initrd, timeout)
}

// fetch downloads and unpacks the newest cloud kernel of a series, once.
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
	pattern := "^linux-image-" + regexp.QuoteMeta(series) + `\..*cloud-amd64-unsigned$`
	out, err := exec.Command("apt-cache", "search", "--names-only", pattern).Output()
	if err != nil {
		return "", fmt.Errorf("apt-cache search: %w (run apt-get update first)", err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		names = append(names, strings.Fields(line)[0])
	}
	if len(names) == 0 {
		return "", fmt.Errorf("no package matches %s (run apt-get update first)", pattern)
	}
	slices.SortFunc(names, func(a, b string) int {
		if exec.Command("dpkg", "--compare-versions", a, "lt", b).Run() == nil {
			return -1
		}
		return 1
	})
	name := names[len(names)-1]
	download, err := os.MkdirTemp(cache, "download-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(download)
	get := exec.Command("apt-get", "-o", "Acquire::Retries=5", "download", name)
	get.Dir = download
	if out, err := get.CombinedOutput(); err != nil {
		return "", fmt.Errorf("apt-get download %s: %w\n%s", name, err, out)
	}
	deb, err := one(filepath.Join(download, "*.deb"))
	if err != nil {
		return "", err
	}
	unpacked := filepath.Join(download, "tree")
	if out, err := exec.Command("dpkg-deb", "-x", deb, unpacked).CombinedOutput(); err != nil {
		return "", fmt.Errorf("dpkg-deb -x: %w\n%s", err, out)
	}
	return tree, os.Rename(unpacked, tree)
}

// buildInitramfs packs init, the modules, each package's test binary and the sources and fixtures that tests read.
func buildInitramfs(path, work, tree string) error {
	out, err := os.Create(path)
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
	for i, m := range modules {
		ko, err := findModule(tree, m, work)
		if err != nil {
			return err
		}
		if err := ar.file(fmt.Sprintf("modules/%02d-%s.ko", i, m), ko, 0o644); err != nil {
			return err
		}
	}
	for _, p := range packages {
		name := filepath.Base(p)
		bin := filepath.Join(work, name+".test")
		if err := goBuild(bin, "test", "-c", "./"+p); err != nil {
			return err
		}
		if err := ar.file("tests/"+name+"/test", bin, 0o755); err != nil {
			return err
		}
		// Tests read sources and fixtures relative to their directory.
		if err := ar.tree("src/"+name, p); err != nil {
			return err
		}
	}
	if err := ar.tree("src/testdata", "testdata"); err != nil {
		return err
	}
	return ar.close()
}

func goBuild(out, verb string, args ...string) error {
	cmd := exec.Command("go", append([]string{verb, "-o", out}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s %s: %w\n%s", verb, strings.Join(args, " "), err, msg)
	}
	return nil
}

// findModule returns an uncompressed copy of a module, or an error where the kernel package has none.
func findModule(tree, name, work string) (string, error) {
	var found string
	err := filepath.WalkDir(filepath.Join(tree, "lib", "modules"), func(p string, d fs.DirEntry, err error) error {
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

// boot runs the machine, echoes its console and judges by init's last line.
func boot(image, initrd string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	// accel=tcg: works everywhere, also where /dev/kvm exists but hangs. thread=single:
	// the kernel patches the call in its XDP dispatcher when a program is exchanged, and
	// an emulated CPU on a thread of its own may run the breakpoint of that patch after
	// the patch is done: an int3 that no kernel expects, a panic that no real CPU shows.
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "2048",
		"-nographic", "-no-reboot", "-net", "none", "-kernel", image, "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 loglevel=3")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w (install qemu-system-x86)", err)
	}
	verdict := ""
	in := bufio.NewReader(stdout)
	for {
		line, err := in.ReadString('\n')
		fmt.Print(line)
		if strings.HasPrefix(line, "KERNELTEST ") {
			verdict = strings.TrimSpace(line)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("qemu: %w (after %s at most)", err, timeout)
	}
	if !strings.HasSuffix(verdict, " ok") {
		return fmt.Errorf("tests did not pass: last word was %q", verdict)
	}
	return nil
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
