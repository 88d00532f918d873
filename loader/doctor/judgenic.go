// SPDX-License-Identifier: Apache-2.0

//go:build linux

package doctor

import (
	"fmt"

	"github.com/xdp-roam/xdp-roam/loader"
)

func judgeInterface(r *report, i *Interface, workers int) {
	if i.Err != nil {
		r.add(failure("interface", i.Name, i.Err, "there is nothing to attach to"))
		return
	}
	if !i.Up {
		r.add(Finding{
			Severity: Warn, Check: "interface", On: i.Name, What: "it is down", Why: "it receives no packets",
			Fix: fmt.Sprintf("`ip link set dev %s up`", i.Name),
		})
	}
	judgeXDP(r, i)
	judgeAttached(r, i)
	if i.Probe != nil {
		judgeProbe(r, i)
	}
	judgeQueues(r, i, workers)
	judgeOffloads(r, i)
}

// judgeXDP: can the driver run the program, and hand frames to AF_XDP sockets?
func judgeXDP(r *report, i *Interface) {
	if err := i.CheckXDP(loader.ModeXDP); err != nil {
		f := failure("xdp", i.Name, err, "mode auto does without XDP here: nothing is filtered before the sockets, which costs more for each packet")
		f.Severity, f.Kind = Warn, nil
		r.add(f)
		return
	}
	if i.Native == loader.SupportUnknown {
		r.add(Finding{
			Severity: Info, Check: "xdp", On: i.Name, What: fmt.Sprintf("driver %s: this kernel does not report whether it has native XDP", i.Driver),
			Why: "Linux reports it since 6.3", Fix: fmt.Sprintf("`xdp-roam doctor --probe-attach %s` tries it", i.Name),
		})
	} else {
		r.ok("xdp", i.Name, "driver %s has native XDP, MTU %d fits", i.Driver, i.MTU)
	}
	switch i.ZeroCopy {
	case loader.SupportYes:
		r.ok("af_xdp", i.Name, "driver %s has AF_XDP zero-copy", i.Driver)
	case loader.SupportNo:
		r.add(Finding{
			Severity: Info, Check: "af_xdp", On: i.Name, What: fmt.Sprintf("driver %s has no AF_XDP zero-copy", i.Driver),
			Why: "AF_XDP sockets work here, but the kernel copies each frame",
		})
	}
	if w := i.Warning(loader.ModeXDP); w != "" {
		f := Finding{Severity: Warn, Check: "xdp", On: i.Name, What: "RETRY may not reach clients", Why: w}
		f.Fix = fmt.Sprintf("`xdp-roam load --mode generic %s`", i.Name)
		if i.Untagged != "" {
			f.Fix = fmt.Sprintf("`ethtool -K %s rxvlan off`", i.Name)
		}
		r.add(f)
	}
}

func judgeAttached(r *report, i *Interface) {
	switch {
	case i.XDP == nil:
		r.ok("program", i.Name, "no XDP program is attached")
	case i.Ours:
		r.ok("program", i.Name, "this instance's %s (id %d) is attached, mode %s", i.XDP.Name, i.XDP.ID, i.XDP.Mode)
	default:
		r.add(failure("program", i.Name, i.Conflict(), "an interface takes one, and another's is never replaced"))
	}
}

func judgeProbe(r *report, i *Interface) {
	if i.Probe.Err == nil {
		r.ok("probe", i.Name, "driver %s took a native program", i.Driver)
		return
	}
	what := fmt.Sprintf("driver %s refused a native program: %v", i.Driver, i.Probe.Err)
	if i.Probe.Driver != "" {
		what = fmt.Sprintf("driver %s refused a native program: %s", i.Driver, i.Probe.Driver)
	}
	r.add(Finding{
		Severity: Warn, Check: "probe", On: i.Name, What: what, Why: "mode auto works without XDP here",
		Fix: fmt.Sprintf("fix what it says, or `xdp-roam load --mode generic %s`, which is slower", i.Name),
	})
}

// smallRing is what a burst of some milliseconds at 1 Mpps overruns.
const smallRing = 1024

// kind is what `ethtool -L` calls receive queues.
func (c Channels) kind() string {
	if c.Separate {
		return "rx"
	}
	return "combined"
}

func judgeQueues(r *report, i *Interface, workers int) {
	c := i.Channels
	switch {
	case c.Count == 0:
	case c.Count < workers && c.Max > c.Count:
		r.add(Finding{
			Severity: Warn, Check: "queues", On: i.Name, What: fmt.Sprintf("receive queues: %d, workers: %d", c.Count, workers),
			Why: "only as many CPUs receive packets as there are queues", Fix: fmt.Sprintf("`ethtool -L %s %s %d`", i.Name, c.kind(), min(c.Max, workers)),
		})
	case c.Count < workers:
		r.add(Finding{
			Severity: Info, Check: "queues", On: i.Name, What: fmt.Sprintf("receive queues: %d, workers: %d, and the NIC has no more queues", c.Count, workers),
			Why: "only as many CPUs receive packets as there are queues",
		})
	default:
		r.ok("queues", i.Name, "receive queues: %d, workers: %d", c.Count, workers)
	}
	switch h := i.UDPHash; {
	case !h.Known || c.Count < 2:
	case !h.Ports:
		r.add(Finding{
			Severity: Warn, Check: "rss", On: i.Name, What: "the NIC's RSS hashes UDP by addresses only",
			Why: "all clients behind one NAT share a queue", Fix: fmt.Sprintf("`ethtool -N %s rx-flow-hash udp4 sdfn` and the same for udp6", i.Name),
		})
	default:
		r.ok("rss", i.Name, "the NIC spreads UDP by addresses and ports")
	}
	switch g := i.Rings; {
	case g.Size == 0:
	case g.Size < smallRing && g.Max > g.Size:
		r.add(Finding{
			Severity: Info, Check: "ring", On: i.Name, What: fmt.Sprintf("the receive ring has %d of at most %d frames", g.Size, g.Max),
			Why: "a burst may overflow it (`ethtool -S` counts that)", Fix: fmt.Sprintf("`ethtool -G %s rx %d`", i.Name, min(g.Max, 4*smallRing)),
		})
	default:
		r.ok("ring", i.Name, "the receive ring holds %d frames", g.Size)
	}
}

func judgeOffloads(r *report, i *Interface) {
	if i.LRO {
		r.add(Finding{
			Severity: Warn, Check: "offloads", On: i.Name, What: "large receive offload (LRO) is on",
			Why: "many drivers refuse XDP with it", Fix: fmt.Sprintf("`ethtool -K %s lro off`", i.Name),
		})
	}
	if !i.GRO && i.CheckXDP(loader.ModeXDP) != nil {
		r.add(Finding{
			Severity: Info, Check: "offloads", On: i.Name, What: "generic receive offload (GRO) is off",
			Why: "without XDP, GRO makes bursts of datagrams cheaper for the sockets", Fix: fmt.Sprintf("`ethtool -K %s gro on`", i.Name),
		})
	}
}
