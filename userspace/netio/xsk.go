// SPDX-License-Identifier: Apache-2.0

package netio

// XSKConfig says which queue an AF_XDP socket serves.
type XSKConfig struct {
	// Interface and Queue are the receive queue, by the interface's index and the
	// queue's number. A socket gets frames of no other queue.
	Interface, Queue int
	// Port is the UDP port that we listen on: frames for another one are refused.
	Port uint16
	// MTU is the interface's, in bytes. It decides the size of the socket's frames.
	MTU int
	// Frames is how many frames can wait in the socket, rounded up to a power of
	// two; 0: 4096, which is some milliseconds of 64-byte packets at 1 Mpps.
	Frames int
	// Copy has the kernel copy frames even where the driver has zero-copy.
	Copy bool
}

// XSKInfo is what an AF_XDP socket came to be.
type XSKInfo struct {
	Interface, Queue int
	// ZeroCopy: the NIC writes into our memory; otherwise the kernel copies each
	// frame there, since the driver cannot do it (or not on this queue).
	ZeroCopy bool
	// HugePages: the memory for frames is in huge pages (vm.nr_hugepages), which
	// saves TLB misses.
	HugePages bool
	// Memory is its size in bytes.
	Memory int
}

// Drops counts frames that reached the queue's socket and never its reader.
type Drops struct {
	// NoFrame (the kernel's rx_dropped): no free frame was left, because the reader
	// is too slow, or the frame is larger than any. With zero-copy the NIC drops
	// before this, and counts by itself (ethtool -S).
	NoFrame uint64
	// RingFull (rx_ring_full): the receive ring was full.
	RingFull uint64
	// FillEmpty (rx_fill_ring_empty_descs) is how often the kernel found no free
	// frame: what is behind NoFrame, and no packets of its own.
	FillEmpty uint64
	// Malformed frames hold no UDP datagram for our port.
	Malformed uint64
}

// Add adds the counts of another socket.
func (d *Drops) Add(o Drops) {
	d.NoFrame += o.NoFrame
	d.RingFull += o.RingFull
	d.FillEmpty += o.FillEmpty
	d.Malformed += o.Malformed
}
