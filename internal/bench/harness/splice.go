// SPDX-License-Identifier: Apache-2.0

//go:build linux

package harness

import (
	"fmt"
	"maps"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// targetSymbol is what is replaced.
const targetSymbol = "target"

// splice puts a program in the place of the harness's target(), as a subprogram:
// the kernels of some machines refuse programs of type extension, which would do
// the same after loading.
func splice(harness, program *ebpf.ProgramSpec) (*ebpf.ProgramSpec, error) {
	spec := harness.Copy()
	start, end := -1, len(spec.Instructions)
	for i, ins := range spec.Instructions {
		switch {
		case ins.Symbol() == targetSymbol:
			start = i
		case ins.Symbol() != "" && start >= 0 && i > start && end == len(spec.Instructions):
			end = i
		}
	}
	if start < 0 {
		return nil, fmt.Errorf("the harness has no %s() to replace", targetSymbol)
	}
	body := program.Copy().Instructions
	body[0] = body[0].WithSymbol(targetSymbol)
	ins := append(asm.Instructions{}, spec.Instructions[:start]...)
	ins = append(ins, spec.Instructions[end:]...)
	spec.Instructions = append(ins, body...)
	return spec, nil
}

// under returns the harness around a program of another collection, with the
// maps and variables of both.
func under(program string, tested *ebpf.CollectionSpec) (*ebpf.CollectionSpec, error) {
	spec, err := loadHarness()
	if err != nil {
		return nil, err
	}
	spliced, err := splice(spec.Programs[Tested], tested.Programs[program])
	if err != nil {
		return nil, err
	}
	spec.Programs[Tested] = spliced
	maps.Copy(spec.Maps, tested.Maps)
	maps.Copy(spec.Variables, tested.Variables)
	return spec, nil
}
