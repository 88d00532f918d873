/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The maps. All that Go reads or writes often is mmapable: no system call for
 * a slot, a counter or the configuration. All are pinned by the loader and
 * survive an exchange of the programs, so key and value sizes are schema.
 */
#ifndef ROAM_MAPS_H
#define ROAM_MAPS_H

#include "common.h"

/* The session table: an id names its slot (session.h). Sized by the loader to a power of two. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 << 20);
	__type(key, __u32);
	__type(value, struct roam_slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct roam_config);
} config SEC(".maps");

/* Open-addressed: see listener.h for where an entry goes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ROAM_MAX_LISTENERS);
	__type(key, __u32);
	__type(value, struct roam_listener);
} listeners SEC(".maps");

/*
 * An ordinary array indexed by CPU, because a per-CPU array cannot be mapped.
 * Only its own CPU writes a block, and never from two contexts at once: both
 * programs run with bottom halves off.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ROAM_MAX_CPUS);
	__type(key, __u32);
	__type(value, struct roam_cpu);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

/* Packets of traced sessions: some four hundred. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} trace SEC(".maps");

/* AF_XDP sockets: interface slot x ROAM_XSK_QUEUES + receive queue. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, ROAM_XSK_INTERFACES * ROAM_XSK_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

/* UDP sockets: (group x ROAM_MAX_WORKERS + owner) x ROAM_MAX_LANES + lane. */
struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, ROAM_MAX_GROUPS * ROAM_MAX_WORKERS * ROAM_MAX_LANES);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

static __always_inline struct roam_config *config_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

static __always_inline struct roam_cpu *cpu_get(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&cpus, &cpu);
}

#endif
