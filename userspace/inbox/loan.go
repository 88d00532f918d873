// SPDX-License-Identifier: Apache-2.0

package inbox

// MaxLoan is how many datagrams an inbox lends at a time: enough to share a lock, few
// enough that who reads them finds them in the cache.
const MaxLoan = 64

// Loan is datagrams that an inbox has lent to a reader: slices of the inbox's own memory,
// which are the reader's, to change too, until it asks for the next ones with the same
// Loan or returns it. Nothing is written there meanwhile, whatever comes, and closing
// the inbox takes nothing back. A Loan that is forgotten costs the inbox nothing: the
// garbage collector takes it. The zero value is ready to use. Each goroutine that reads
// has its own; it must not be copied.
type Loan struct {
	from      *Inbox // whose blocks are
	datagrams [][]byte
	blocks    []*block // where the datagrams lie, each once
}

// Return ends the loan: its datagrams must not be used any more. It may hold none.
func (l *Loan) Return() {
	if len(l.blocks) == 0 {
		return
	}
	l.from.mu.Lock()
	for _, b := range l.blocks {
		l.from.queue.unlend(b)
	}
	l.from.mu.Unlock()
	clear(l.datagrams)
	clear(l.blocks)
	l.from, l.datagrams, l.blocks = nil, l.datagrams[:0], l.blocks[:0]
}
