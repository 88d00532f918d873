// SPDX-License-Identifier: Apache-2.0

//go:build linux

package dataplane

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -tags linux -go-package dataplane -no-global-types variant variant.bpf.c -- -O2 -g -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-function -I ../../../bpf -I ../../../bpf/headers -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
