// SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// Whatever happens to networks, names and server: once all is well the session
// works, and no socket is left over.
func TestAnythingHappens(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			simulate(t, func(c *Config) {
				c.Server = "edge.test"
				c.Network.(*simHost).name("edge.test", simServer, simServer6)
			}, func(x *sim) {
				all := []string{wifi, lte, wifi6, lte6}
				crashed := false
				for range 25 {
					switch rnd.IntN(9) {
					case 0, 1, 2:
						rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
						x.host.set(all[:rnd.IntN(len(all)+1)]...)
					case 3:
						x.net.cut(all[0], rnd.IntN(2) == 0, rnd.IntN(2) == 0)
					case 4:
						x.net.setDrop(func(_, _ netip.AddrPort, _ []byte) bool { return rand.IntN(10) < 3 })
					case 5:
						x.net.heal()
					case 6:
						x.host.sleep(time.Duration(rnd.IntN(7200)) * time.Second)
					case 7:
						addrs := []netip.AddrPort{simServer, simSecond, simServer6}
						x.host.name("edge.test", addrs[rnd.IntN(3)])
					case 8:
						x.rig.crash(rnd.IntN(3) > 0)
						crashed = true
					}
					time.Sleep(time.Duration(rnd.Int64N(int64(4 * time.Second))))
					if n := x.s.Info().Sockets; n > 24 {
						t.Fatalf("%d sockets are open", n)
					}
				}
				x.net.heal()
				x.host.name("edge.test", simServer, simServer6)
				x.host.set(wifi, lte, wifi6)
				x.flows()
				if !crashed {
					x.same()
				}
				x.until("one socket, and it rests", func() bool {
					i, n := x.s.Info(), x.net.open(func(a netip.Addr) bool { return slices.Contains(all, a.String()) })
					return i.Sockets == 1 && n == 1 && !i.Reopening
				})
			})
		})
	}
}
