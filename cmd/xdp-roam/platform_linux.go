// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/spf13/cobra"

// platformCommands are those of the edge, which is a Linux machine.
func platformCommands(e *env) []*cobra.Command {
	return []*cobra.Command{
		newSessionCommand(e),
		newMapCommand(e),
		newStatsCommand(e),
	}
}

var platformCodes []codeOf
