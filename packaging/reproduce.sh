#!/bin/sh
# reproduce.sh PROGRAM ARCH: builds the commit once more, from another directory and with nothing
# from the cache of the first build, and compares the bytes with PROGRAM's.
set -eu
there=$(mktemp -d)
trap 'rm -rf "$there"' EXIT
mkdir "$there/another-place"
# What is built now is what git knows of, changed or not.
git ls-files -z | tar --null -T - --ignore-failed-read -c | tar -x -C "$there/another-place"
(cd "$there/another-place" && GOCACHE="$there/cache" sh packaging/build.sh "$there/program" "$2")
if ! cmp "$1" "$there/program"; then
	echo "reproduce: two builds of $COMMIT for $2 differ" >&2
	exit 1
fi
sha256sum "$1"
