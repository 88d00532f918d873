// SPDX-License-Identifier: Apache-2.0

package report

import "context"

// Alternate runs the measurements in turn, n times each, and returns the runs of
// each: what changes on the machine meanwhile meets them all alike.
func Alternate(ctx context.Context, n int, measurements ...func() (float64, error)) ([][]float64, error) {
	runs := make([][]float64, len(measurements))
	for range n {
		for i, measure := range measurements {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			v, err := measure()
			if err != nil {
				return nil, err
			}
			runs[i] = append(runs[i], v)
		}
	}
	return runs, nil
}
