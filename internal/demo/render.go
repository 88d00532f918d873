// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Write writes the report for people.
func (r *Report) Write(w io.Writer) error {
	p := &printer{tabs: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	p.line("kernel %s, XDP %s on the edge's veth, %d datagrams/s of %d bytes, %s in all",
		r.Kernel, orNone(r.XDP), r.Rate, r.Size, r.Took.Round(100*time.Millisecond))
	p.moves(r)
	p.spans(r)
	p.attacks(r)
	p.counters(r)
	p.title("The session, as `xdp-roam session list` shows it")
	p.line("%s", strings.TrimRight(r.SessionList, "\n"))
	p.expectations(r)
	return p.close()
}

// printer writes sections of aligned columns; the first error stays.
type printer struct {
	tabs *tabwriter.Writer
	err  error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.tabs, format+"\n", args...)
	}
}

func (p *printer) row(cells ...any) {
	var texts []string
	for _, c := range cells {
		texts = append(texts, fmt.Sprint(c))
	}
	p.line("  %s", strings.Join(texts, "\t"))
}

func (p *printer) title(text string) {
	if p.err == nil {
		p.err = p.tabs.Flush() // each section has its own columns
	}
	p.line("\n%s", text)
}

func (p *printer) close() error {
	if p.err == nil {
		p.err = p.tabs.Flush()
	}
	return p.err
}

func (p *printer) moves(r *Report) {
	p.title("Moves (times since the new network could be used; outage: from the end of the old path to the first packet on the new one)")
	p.row("MOVE", "FIRST BYTE", "ITS ANSWER", "COMMITTED", "OUTAGE", "SENT", "LOST", "TWICE", "CLIENT SEEN AT")
	for _, m := range r.Moves {
		p.row(m.Name, round(m.FirstByte), round(m.FirstAnswer), round(m.Commit), round(m.Outage), m.Account.Sent, lost(m.Account),
			m.Account.Duplicates, m.To)
	}
	for _, m := range r.Moves {
		text := fmt.Sprintf("  %s: %s", m.Name, m.How)
		if m.Account.Lost() > 0 {
			text += fmt.Sprintf("; lost: %s", ranges(m.Account.LostNumbers))
		}
		p.line("%s", text)
	}
}

func (p *printer) spans(r *Report) {
	p.title("Between the moves")
	p.row("WHEN", "SENT", "LOST", "TWICE", "ROUND TRIP 50%", "90%", "99%", "WORST")
	all := append(slices.Clone(r.Spans), Span{Name: "the whole run", Account: r.Whole})
	for _, s := range all {
		a := s.Account
		p.row(s.Name, a.Sent, lost(a), a.Duplicates, round(a.RTT50), round(a.RTT90), round(a.RTT99), round(a.Worst))
	}
}

func (p *printer) attacks(r *Report) {
	p.title("What the attacker tried")
	p.row("ATTACK", "PACKETS", "WHAT BECAME OF THEM")
	for _, a := range r.Attacks {
		p.row(a.Name, a.Sent, a.Fate)
	}
	for _, a := range r.Attacks {
		text := fmt.Sprintf("  %s: %s", a.Name, a.What)
		if len(a.Volleys) > 1 {
			var parts []string
			for _, v := range a.Volleys {
				parts = append(parts, fmt.Sprintf("%s %d", v.Attack, v.Sent))
			}
			text += " (" + strings.Join(parts, ", ") + ")"
		}
		p.line("%s", text)
	}
}

func (p *printer) counters(r *Report) {
	p.title("Counters of the edge")
	p.row("STAGE", "VERDICT", "REASON", "PACKETS")
	for _, c := range r.Counters {
		p.row(c.Stage, c.Verdict, c.Reason, c.Value)
	}
}

func (p *printer) expectations(r *Report) {
	p.title("Expectations")
	held := 0
	for _, e := range r.Expectations {
		mark := "FAILED"
		if e.OK {
			mark, held = "ok", held+1
		}
		p.row(mark, e.Text, e.Detail)
	}
	p.line("\n%d of %d expectations held", held, len(r.Expectations))
}

func lost(a Account) string {
	if a.Lost() == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%d to, %d from the service)", a.Lost(), a.LostUp, a.LostDown)
}

// ranges writes ascending numbers as "3-7, 9".
func ranges(numbers []uint64) string {
	var texts []string
	for i := 0; i < len(numbers); {
		last := i
		for last+1 < len(numbers) && numbers[last+1] == numbers[last]+1 {
			last++
		}
		if text := fmt.Sprint(numbers[i]); last > i {
			texts = append(texts, fmt.Sprintf("%s-%d", text, numbers[last]))
		} else {
			texts = append(texts, text)
		}
		i = last + 1
	}
	return strings.Join(texts, ", ")
}

// round is a duration with three or so digits.
func round(d time.Duration) time.Duration {
	switch {
	case d > time.Second:
		return d.Round(10 * time.Millisecond)
	case d > 10*time.Millisecond:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}

// joinCounts writes counts by name.
func joinCounts(counts map[string]int) string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		texts = append(texts, fmt.Sprintf("%d: %s", counts[name], name))
	}
	return strings.Join(texts, "; ")
}
