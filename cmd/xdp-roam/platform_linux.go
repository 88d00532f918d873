// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/loader"
	"github.com/xdp-roam/xdp-roam/maps"
	"github.com/xdp-roam/xdp-roam/userspace/control"
	"github.com/xdp-roam/xdp-roam/userspace/server"
)

// platformCommands are those of the edge, which is a Linux machine.
func platformCommands(e *env) []*cobra.Command {
	return []*cobra.Command{
		newRunCommand(e),
		newLoadCommand(e),
		newUpgradeCommand(e),
		newUnloadCommand(e),
		newStatusCommand(e),
		newDoctorCommand(e),
		newSessionCommand(e),
		newMapCommand(e),
		newStatsCommand(e),
		newEventsCommand(e),
		newTopCommand(e),
		newTraceCommand(e),
		newDrainCommand(e),
		newStateCommand(e),
		newBenchCommand(e),
	}
}

// platformCodes are the exit codes of the edge's packages.
var platformCodes = []codeOf{
	{loader.ErrPermission, exitPermission},
	{loader.ErrUnsupported, exitUnsupported},
	{loader.ErrConflict, exitConflict},
	{loader.ErrNotLoaded, exitNotLoaded},
	{server.ErrConfig, exitUsage},
	{control.ErrRefused, exitConflict},
	{maps.ErrSlots, exitUsage},
}

// portOwners names the processes that have a port of a network, udp or tcp.
func portOwners(network string, port uint16) []string { return loader.PortOwners(network, port) }
