// SPDX-License-Identifier: Apache-2.0

// Package lab makes small networks out of network namespaces, for the demo
// command and for privileged tests: namespaces, veth pairs, routers, a NAT that
// can be rebound, taps, and a ready topology of a roaming client, an edge
// server and an attacker.
//
// Everything is done through netlink and system calls: no ip, nft or tc command
// and no kernel module beside veth is needed.
//
// # Nothing is left behind
//
// A [Namespace] is an anonymous one: no name, no bind mount. It lives as long as
// the operating system thread that holds it and the processes started in it, and
// those die with the thread. Links and mounts live inside namespaces. So when the
// process ends, in whatever way, even by SIGKILL, the kernel removes all of it.
// Only a [Scratch] directory can survive a kill; the next [NewScratch] removes it.
package lab
