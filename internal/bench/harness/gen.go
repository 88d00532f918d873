// SPDX-License-Identifier: Apache-2.0

//go:build linux

package harness

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -tags linux -go-package harness -type harness_frame -type harness_record -type harness_config harness harness.bpf.c -- -O2 -g -mcpu=v3 -Wall -Wextra -Werror -I ../../../bpf -I ../../../bpf/headers -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
