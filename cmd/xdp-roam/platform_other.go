// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import "github.com/spf13/cobra"

// Only the client side exists off Linux: the edge is a Linux machine.
func platformCommands(*env) []*cobra.Command { return nil }

var platformCodes []codeOf

// portOwners is not known here.
func portOwners(string, uint16) []string { return nil }
