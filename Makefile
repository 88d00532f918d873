# xdp-roam: `make demo` shows the main job, `make test` runs every test.

GO          ?= go
BIN         := bin/xdp-roam
COMMIT      := $(shell git rev-parse HEAD 2>/dev/null)
DATE        := $(shell TZ=UTC0 git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ 2>/dev/null)
DIRTY       := $(shell git diff --quiet HEAD 2>/dev/null || echo -dirty)
# A release has a tag, v1.2.3; what lies between is a day and a commit before the first one.
VERSION     := $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//' | grep . || git log -1 --format='0.0.0-dev.%cd.g%h' --date=format:%Y%m%d --abbrev=12 2>/dev/null || echo unknown)
LDFLAGS     := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)$(DIRTY) -X main.date=$(DATE)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The product needs no C compiler: the BPF objects are committed, the Go is pure.
export CGO_ENABLED = 0

.PHONY: all tools build demo test test-load race fuzz lint vet fmt-check cross generate generate-check bench bench-xdp bench-rx bench-socket bench-crypto bench-control bench-roam bench-docs bench-list profile test-apps apps-docs test-kernels test-zerocopy man completions sbom package container release test-package clean help

all: build

## build: compile bin/xdp-roam
build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/xdp-roam

## demo: a client roams across two NATs and IPv6 under attack (root, Linux; under a minute)
demo: build
	$(BIN) demo

## test: all tests; those that need root are skipped without it, and say so
test:
	@[ "$$(id -u)" = 0 ] || echo "not root: tests that load BPF programs or make network namespaces are skipped; go test -v says which and why"
	$(GO) vet ./...
	$(GO) test -timeout 20m ./...
	$(GO) -C bench test -timeout 20m ./...
	$(GO) -C packaging/sbom test ./...

LOADTIME ?= 3m
## test-load: full rate with a move every second, every datagram accounted for; LOADTIME in each mode (root)
test-load:
	XDP_ROAM_REQUIRE_PRIVILEGED=1 $(GO) test -count=1 -v -timeout 2h -run '^TestLoad$$' ./internal/load -load.time=$(LOADTIME)

## race: all tests under the race detector (needs a C compiler)
race:
	CGO_ENABLED=1 $(GO) test -race -timeout 30m ./...

FUZZTIME ?= 10s
## fuzz: each fuzz target for FUZZTIME
fuzz:
	@set -e; for pkg in $$($(GO) list ./...); do \
	  dir=$$($(GO) list -f '{{.Dir}}' $$pkg); \
	  for f in $$(grep -hos '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | sed 's/^func //'); do \
	    echo "== $$pkg $$f"; $(GO) test -run='^$$' -fuzz="^$$f\$$" -fuzztime=$(FUZZTIME) $$pkg; \
	  done; \
	done

## lint: gofmt, vet and staticcheck
lint: fmt-check vet
	$(GO) run $(STATICCHECK) ./...
	cd bench && $(GO) run $(STATICCHECK) ./...

# tools: what lint and package run, fetched and built.
tools:
	$(GO) run $(STATICCHECK) -version
	$(GO) run $(NFPM) --version

vet:
	$(GO) vet ./...
	$(GO) -C bench vet ./...
	$(GO) -C packaging/sbom vet ./...

fmt-check:
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not gofmt'ed:"; echo "$$out"; exit 1; fi

## cross: compile everything, including tests, for macOS and Windows, and the command for arm64
cross:
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	GOOS=windows GOARCH=amd64 $(GO) vet ./...
	GOOS=linux GOARCH=arm64 $(GO) build -o /dev/null ./cmd/xdp-roam

## generate: rebuild the BPF objects and their Go (clang-19, llvm-strip-19)
generate:
	$(GO) generate ./bpf ./internal/bench/...

## generate-check: verify that the committed generated files are current
generate-check: generate
	@out=$$(git status --porcelain -- bpf 'internal/bench/**/*_bpfel.*'); if [ -n "$$out" ]; then \
	  echo "generated files are not current (run make generate and commit):"; echo "$$out"; exit 1; fi

# The benchmarks are a module of their own: their peers are no dependencies of the product.
BENCH := bin/xdp-roam-bench -results bench/results.json
bin/xdp-roam-bench: FORCE
	$(GO) -C bench build -o ../$@ .
FORCE:

## bench: all benchmarks against their goals and peers, into bench/results.json (root; under 15 minutes on an idle machine)
bench: bin/xdp-roam-bench
	$(BENCH)

## bench-xdp: only rows 1 to 6 of docs/BENCHMARKS.md: the data plane (root)
bench-xdp: bin/xdp-roam-bench
	$(BENCH) xdp

## bench-rx: only rows 7 to 9, 11 and 12: packets into a worker, and the whole path against peers (root)
bench-rx: bin/xdp-roam-bench
	$(BENCH) rx

## bench-socket: only row 19: socket selection, and GSO over veth (root)
bench-socket: bin/xdp-roam-bench
	$(BENCH) socket

## bench-crypto: only rows 10, 16 and 17: protocol cost and handshakes (root)
bench-crypto: bin/xdp-roam-bench
	$(BENCH) crypto

## bench-control: only rows 13 to 15 and 18: table, moves, memory (root)
bench-control: bin/xdp-roam-bench
	$(BENCH) control

## bench-roam: only row 20: recovery after a move (root)
bench-roam: bin/xdp-roam-bench
	$(BENCH) roam

## bench-list: `session list` with a million sessions; fails if any form takes two seconds
bench-list:
	$(GO) test -run '^$$' -bench '^BenchmarkSessionList$$' -benchtime 3x ./cmd/xdp-roam

## profile: CPU profiles of a worker at 64 and 1400 bytes, into bin/
profile: bin/xdp-roam-bench
	bin/xdp-roam-bench -profile bin
	for size in 64 1400; do $(GO) tool pprof -top -nodecount 16 -focus 'server.*reader.*open' bin/xdp-roam-bench bin/worker-$$size.prof; done

## bench-docs: fill the tables of docs/BENCHMARKS.md from bench/results.json
bench-docs: bin/xdp-roam-bench
	$(BENCH) -docs docs/BENCHMARKS.md

# Real programs on the move. Debian's packages are installed where they are missing; none of their services is started.
APP_PACKAGES := openssh-server openssh-client nginx curl dnsmasq-base bind9-dnsutils iperf3 mosh
APPS         := bin/xdp-roam-apps -xdp-roam $(BIN)
bin/xdp-roam-apps: FORCE
	$(GO) -C bench build -o ../$@ ./apps

## test-apps: ssh, scp, nginx, curl, dig, iperf3 and a WebSocket while the client moves, beside mosh and WireGuard (root, Debian; 6 minutes)
test-apps: build bin/xdp-roam-apps
	@dpkg-query -W $(APP_PACKAGES) >/dev/null 2>&1 || .ci/install $(APP_PACKAGES)
	$(APPS)

## apps-docs: the same, and write the report to docs/APPS.md
apps-docs: build bin/xdp-roam-apps
	$(APPS) -report docs/APPS.md

## test-kernels: the privileged tests on Debian's 6.1 and 6.12 kernels under qemu (apt, qemu-system-x86)
test-kernels:
	$(GO) run ./vagrant/kernels -kernel 6.1 -kernel 6.12

## test-zerocopy: AF_XDP zero-copy over two virtio NICs on Debian's backported 6.18 kernel under qemu (root, apt, qemu-system-x86; 3 minutes)
test-zerocopy:
	$(GO) run ./vagrant/kernels -zerocopy

# Tools of the release, none of which is a dependency of the product.
NFPM := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.44.2
ARCH ?= $(shell $(GO) env GOARCH)
EPOCH = $(shell git log -1 --format=%ct)

# What packaging/ reads; all of it from the commit.
dist/%: export VERSION := $(VERSION)
dist/%: export COMMIT := $(COMMIT)$(DIRTY)
dist/%: export DATE := $(DATE)
release package container: export VERSION := $(VERSION)
release package container: export COMMIT := $(COMMIT)$(DIRTY)
release package container: export DATE := $(DATE)
release package container: export SOURCE_DATE_EPOCH = $(EPOCH)

dist/$(ARCH)/xdp-roam: FORCE
	@mkdir -p $(@D)
	sh packaging/build.sh $@ $(ARCH)

## man: the manual pages, into dist/man
man: build
	rm -rf dist/man && mkdir -p dist/man
	SOURCE_DATE_EPOCH=$(EPOCH) $(BIN) man dist/man
	gzip -9n dist/man/*.1

## completions: shell completions for bash, zsh and fish, into dist/completions
completions: build
	mkdir -p dist/completions
	$(BIN) completion bash > dist/completions/xdp-roam.bash
	$(BIN) completion zsh > dist/completions/_xdp-roam
	$(BIN) completion fish > dist/completions/xdp-roam.fish

## sbom: the software bill of materials (CycloneDX), into dist/
sbom: dist/$(ARCH)/xdp-roam
	$(GO) -C packaging/sbom build -o ../../bin/sbom .
	bin/sbom $< '$(VERSION)' '$(DATE)' > dist/xdp-roam.cdx.json

## package: the Debian package and its SBOM, into dist/ (ARCH=arm64 for another machine's)
package: dist/$(ARCH)/xdp-roam man completions sbom
	ARCH=$(ARCH) $(GO) run $(NFPM) package --config packaging/nfpm.yaml --packager deb --target dist/

## container: the image of packaging/Containerfile around the program of dist/, without a base image or a network, into dist/ (buildah)
container: dist/$(ARCH)/xdp-roam
	@command -v buildah >/dev/null || { echo "make container: no buildah: apt-get install buildah"; exit 1; }
	buildah build --isolation chroot --pull-never --arch $(ARCH) --timestamp $(EPOCH) --build-context build=dist/$(ARCH) -t xdp-roam:$(VERSION) -f packaging/Containerfile .
	buildah push xdp-roam:$(VERSION) oci-archive:dist/xdp-roam_$(VERSION)_$(ARCH).oci.tar

## release: build the package twice, in another directory with an empty cache, and compare
release: package
	sh packaging/reproduce.sh dist/$(ARCH)/xdp-roam $(ARCH)
	cd dist && sha256sum "$$(basename "$$(ls -t *_$(ARCH).deb | head -1)")" xdp-roam.cdx.json $(ARCH)/xdp-roam > SHA256SUMS

## test-package: install, run and remove the package in namespaces with their own systemd (root)
test-package: package
	XDP_ROAM_REQUIRE_PRIVILEGED=1 XDP_ROAM_DEB="$$(ls -t $(CURDIR)/dist/*_$(ARCH).deb | head -1)" $(GO) test -count=1 -v -run '^TestInstalled' ./packaging

clean:
	rm -rf bin dist .cache

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)
