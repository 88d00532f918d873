// SPDX-License-Identifier: Apache-2.0

// Command xdp-roam is the edge, the client and the tools of XDP-ROAM: this
// package wires the other packages and presents what they say.
package main

import "os"

func main() {
	os.Exit(run(newEnv()))
}
