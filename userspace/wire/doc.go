// SPDX-License-Identifier: Apache-2.0

// Package wire turns ROAM/1 packets and frames into bytes and back. It is pure:
// no state, no clock, no cryptography and no allocation, so that the same code
// serves the server's hot path, the client and the fuzzer.
//
// The layouts are those of docs/PROTOCOL.md. All integers are big-endian. A
// parser never keeps or changes what it is given; slices that it returns alias
// the packet.
package wire
