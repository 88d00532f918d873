// SPDX-License-Identifier: Apache-2.0

// Package packaging tests what is shipped: units, the Debian package, the
// container's recipe. It holds no code of the product.
package packaging
