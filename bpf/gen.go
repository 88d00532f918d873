// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the data plane: two BPF programs in C, roam_xdp (XDP) and
// roam_socket (sk_reuseport), compiled into this package, and the Go types of
// everything that they share with userspace (types.h), generated from their BTF.
//
// The generated files are committed, so that a build needs no C compiler;
// "go generate" makes the same bytes again with clang 19.
package bpf

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -go-package bpf -type roam_stage -type roam_verdict -type roam_lane -type roam_reason -type roam_kind -type roam_slot_flag -type roam_listener_flag -type roam_cookie_policy -type roam_slot -type roam_sipkey -type roam_id_key -type roam_cookie_key -type roam_limits -type roam_config -type roam_listener -type roam_bucket -type roam_clock -type roam_cpu -type roam_event -type roam_trace Roam roam.bpf.c -- -O2 -g -mcpu=v3 -Wall -Wextra -Werror -I headers -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
