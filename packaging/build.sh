#!/bin/sh
# build.sh OUT ARCH: the program of the present directory, the same bytes wherever and whenever
# it is built: no path (-trimpath), no day (VERSION, COMMIT and DATE come from the commit), no C.
set -eu
CGO_ENABLED=0 GOOS=linux GOARCH="$2" GOFLAGS=-buildvcs=false exec "${GO:-go}" build -trimpath -ldflags \
	"-s -w -buildid= -X main.version=$VERSION -X main.commit=$COMMIT -X main.date=$DATE" -o "$1" ./cmd/xdp-roam
