// SPDX-License-Identifier: Apache-2.0

// Package demo runs the main scenario on a real network of namespaces: an
// edge with XDP in the driver, a client that streams numbered datagrams through
// it to a UDP service while it moves between networks, and an attacker who
// sniffs, replays, forges and floods meanwhile. It judges what it saw and
// reports it.
//
// [Run] is the director: it builds the network (package lab), starts every part
// as a process of its own, moves the client's links, and gathers what the parts
// and the edge's counters say. The parts are the edge, which is the real
// `xdp-roam run`, and those of [RunPart].
package demo
