/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * From the frame to the UDP payload: Ethernet, up to two VLAN tags, IPv4 with
 * options, IPv6 with extension headers, UDP. What is not UDP over IP, or is cut
 * into fragments, is the stack's.
 */
#ifndef ROAM_PARSE_H
#define ROAM_PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include "common.h"

#define VLAN_TAGS_MAX 2
#define EXTENSION_HEADERS_MAX 4
/* The verifier wants a bound on every offset; real headers stay far below it. */
#define HEADERS_MAX 2048
#define FRAGMENT_BITS bpf_htons(0x3fff) /* more fragments, and the offset */

struct vlan_tag {
	__be16 tci;
	__be16 next;
};

struct extension_header {
	__u8 next;
	__u8 length;	 /* in 8 bytes, not counting the first 8 */
	__u8 type;
	__u8 segments_left; /* of a routing header */
};

/* How far the parser has come, as offsets into the frame. */
struct cursor {
	void *data;
	void *end;
	__u32 at;
	__u32 limit; /* the IP packet ends here; what follows is padding */
	__u8 protocol;
};

/* struct ethhdr is packed, and clang would load its field in two halves. */
static __always_inline __be16 ethernet_proto(const void *frame)
{
	return *(const __be16 *)(frame + offsetof(struct ethhdr, h_proto));
}

/* By words: in6_addr is aligned to four bytes alone. */
static __always_inline void ipv6_words(__u64 *words, const struct in6_addr *addr)
{
	words[0] = *(const __u64 *)addr;
	words[1] = *((const __u64 *)addr + 1);
}

static __always_inline bool is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

static __always_inline __u32 parse_ipv4(struct cursor *c, struct packet *p)
{
	struct iphdr *ip = c->data + c->at;
	__u32 header, total;

	if ((void *)(ip + 1) > c->end)
		return ROAM_REASON_IP_MALFORMED;
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip) || total < header ||
	    total > BYTES_BETWEEN(ip, c->end))
		return ROAM_REASON_IP_MALFORMED;
	if (ip->protocol != IPPROTO_UDP)
		return ROAM_REASON_NOT_UDP;
	if (ip->frag_off & FRAGMENT_BITS)
		return ROAM_REASON_FRAGMENT;
	p->src[0] = 0;
	p->src[1] = IPV4_MAPPED_LOW(ip->saddr);
	p->dst[0] = 0;
	p->dst[1] = IPV4_MAPPED_LOW(ip->daddr);
	p->plain = header == sizeof(*ip);
	c->limit = c->at + total;
	c->at += header;
	return UNDECIDED;
}

/* Walks to the UDP header. */
static __always_inline __u32 parse_extensions(struct cursor *c)
{
	for (int i = 0; i <= EXTENSION_HEADERS_MAX; i++) {
		struct extension_header *x;

		if (c->protocol == IPPROTO_UDP)
			return UNDECIDED;
		if (c->protocol == IPPROTO_FRAGMENT)
			return ROAM_REASON_FRAGMENT;
		if (c->protocol != IPPROTO_HOPOPTS && c->protocol != IPPROTO_ROUTING &&
		    c->protocol != IPPROTO_DSTOPTS)
			return ROAM_REASON_NOT_UDP;
		if (i == EXTENSION_HEADERS_MAX || c->at > HEADERS_MAX)
			return ROAM_REASON_EXTENSION_HEADERS;
		x = c->data + c->at;
		if ((void *)(x + 1) > c->end)
			return ROAM_REASON_IP_MALFORMED;
		/* Not at its last hop: the destination is not the final one. */
		if (c->protocol == IPPROTO_ROUTING && x->segments_left)
			return ROAM_REASON_EXTENSION_HEADERS;
		c->protocol = x->next;
		c->at += (x->length + 1) * 8;
	}
	return ROAM_REASON_EXTENSION_HEADERS;
}

static __always_inline __u32 parse_ipv6(struct cursor *c, struct packet *p)
{
	struct ipv6hdr *ip = c->data + c->at;
	__u32 total;

	if ((void *)(ip + 1) > c->end)
		return ROAM_REASON_IP_MALFORMED;
	total = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || total > BYTES_BETWEEN(ip, c->end))
		return ROAM_REASON_IP_MALFORMED;
	ipv6_words(p->src, &ip->saddr);
	/* Would pass for the IPv4 path of that address. The stack refuses it too. */
	if (is_ipv4_mapped(p->src[0], p->src[1]))
		return ROAM_REASON_IP_MALFORMED;
	ipv6_words(p->dst, &ip->daddr);
	p->ipv6 = true;
	p->plain = ip->nexthdr == IPPROTO_UDP;
	c->limit = c->at + total;
	c->protocol = ip->nexthdr;
	c->at += sizeof(*ip);
	return parse_extensions(c);
}

static __always_inline __u32 parse_udp(struct cursor *c, struct packet *p)
{
	struct udphdr *udp;
	__u32 length;

	if (c->at > HEADERS_MAX)
		return ROAM_REASON_EXTENSION_HEADERS;
	udp = c->data + c->at;
	if ((void *)(udp + 1) > c->end || c->at + sizeof(*udp) > c->limit)
		return ROAM_REASON_IP_MALFORMED;
	length = bpf_ntohs(udp->len);
	p->short_udp = length < sizeof(*udp) || c->at + length > c->limit;
	p->length = p->short_udp ? 0 : length - sizeof(*udp);
	p->sport = udp->source;
	p->dport = udp->dest;
	p->payload = c->at + sizeof(*udp);
	return UNDECIDED;
}

/*
 * Fills p; returns a reason to pass the frame to the stack, or UNDECIDED.
 *
 * A global function: the verifier looks at it once by itself, and not at all
 * that follows once for each way through it.
 */
__noinline __u32 parse(struct xdp_md *ctx, struct packet *p)
{
	struct cursor c = { .data = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	struct ethhdr *eth = c.data;
	__be16 proto;
	__u32 reason;

	if (!p || (void *)(eth + 1) > c.end)
		return ROAM_REASON_NOT_IP;
	proto = ethernet_proto(c.data);
	c.at = sizeof(*eth);
	for (int i = 0; i < VLAN_TAGS_MAX && is_vlan(proto); i++) {
		struct vlan_tag *tag = c.data + c.at;

		if ((void *)(tag + 1) > c.end)
			return ROAM_REASON_NOT_IP;
		proto = tag->next;
		c.at += sizeof(*tag);
	}
	if (is_vlan(proto))
		return ROAM_REASON_VLAN_DEPTH;
	p->network = c.at;
	if (proto == bpf_htons(ETH_P_IP))
		reason = parse_ipv4(&c, p);
	else if (proto == bpf_htons(ETH_P_IPV6))
		reason = parse_ipv6(&c, p);
	else
		reason = ROAM_REASON_NOT_IP;
	return reason == UNDECIDED ? parse_udp(&c, p) : reason;
}

#endif
