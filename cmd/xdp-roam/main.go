// SPDX-License-Identifier: Apache-2.0

// Command xdp-roam is the edge, the client and their tools. This package connects the
// other packages and presents their results.
package main

import "os"

func main() {
	os.Exit(run(newEnv()))
}
