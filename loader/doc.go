// SPDX-License-Identifier: Apache-2.0

// Package loader loads the data plane into the kernel and removes it again: it checks
// what the machine can do before it tries anything, creates or adopts an instance's
// pinned maps, loads the programs over them, attaches them to
// interfaces, and keeps both right while links and addresses come and go.
//
// An instance's pins lie under <bpffs>/xdp-roam/<instance>:
//
//	maps/<name>          the maps, made as a whole or not at all
//	links/<interface>    one bpf_link for each interface with roam_xdp
//	kept                 an empty directory: the pins are an operator's
//	                     (`load`) and outlive the process that uses them
//
// A process holds a lock on the instance's directory as long as it may write
// there: one instance, one table, one writing process. A process that dies
// leaves its pins, so steering goes on; the next one adopts them.
//
// The functions act in the network and mount namespaces of the calling thread.
package loader
