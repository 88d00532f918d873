// SPDX-License-Identifier: Apache-2.0

// Package load holds the test of correctness under load: real clients, the real
// data plane and a real server, in network namespaces. Several sessions send
// numbered datagrams in both directions as fast as the machine can while each
// client moves every second, to another network and through NATs that forget it.
//
// At the end nothing may be unexplained: at every hop between the two
// applications, what came in is what went out, or a counter with a name says how
// many were dropped there, and nothing was delivered twice. No speed is asserted:
// a busy machine drops more, and accounts for it.
//
// `make test-load` runs it for minutes, `make test` for some seconds.
package load
