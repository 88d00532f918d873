// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/xdp-roam/xdp-roam/internal/lab"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

const (
	wgLink = "wg0"
	wgPort = 5182 // no ephemeral port, which a socket of xdp-roam's may have
)

// Addresses inside the WireGuard tunnel.
var (
	wgEdge   = netip.MustParsePrefix("10.77.0.1/24")
	wgClient = netip.MustParsePrefix("10.77.0.2/24")
)

// runWireGuard is one end of a tunnel, in a process of its own: wireguard-go with
// what its input says, in the words of wg's cross-platform interface, until that ends.
func runWireGuard(in io.Reader, out io.Writer) error {
	link, err := tun.CreateTUN(wgLink, device.DefaultMTU)
	if err != nil {
		return fmt.Errorf("making a TUN device (is there /dev/net/tun?): %w", err)
	}
	d := device.NewDevice(link, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	defer d.Close()
	var settings strings.Builder
	buffer := make([]byte, 1)
	for !strings.HasSuffix(settings.String(), "\n\n") {
		if _, err := in.Read(buffer); err != nil {
			return err
		}
		settings.Write(buffer)
	}
	if err := errors.Join(d.IpcSet(settings.String()), d.Up()); err != nil {
		return err
	}
	fmt.Fprintln(out, "ready")
	_, err = io.Copy(io.Discard, in)
	return err
}

// wireGuard makes a tunnel from the client to the edge at address.
func (s *stage) wireGuard(ctx context.Context, address netip.Addr) (end func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	edge, client := handshake.NewPrivateKey(), handshake.NewPrivateKey()
	var ends []*process
	end = func() error {
		for _, p := range ends {
			p.stdin.Close()
			<-p.ended
		}
		return nil
	}
	for _, side := range []struct {
		ns       *lab.Namespace
		inside   netip.Prefix
		settings string
	}{
		{s.net.Edge, wgEdge, fmt.Sprintf("private_key=%s\nlisten_port=%d\npublic_key=%s\nallowed_ip=%v/32\n\n",
			wgKey(edge), wgPort, wgKey(client.Public()), wgClient.Addr())},
		{s.net.Client, wgClient, fmt.Sprintf("private_key=%s\npublic_key=%s\nendpoint=%v\nallowed_ip=%v/32\npersistent_keepalive_interval=25\n\n",
			wgKey(client), wgKey(edge.Public()), netip.AddrPortFrom(address, wgPort), wgEdge.Addr())},
	} {
		p, err := s.start(side.ns, nil, self, "-wireguard")
		if err != nil {
			return end, err
		}
		ends = append(ends, p)
		if _, err := io.WriteString(p.stdin, side.settings); err != nil {
			return end, err
		}
		if err := s.ready(ctx, p, "ready"); err != nil {
			return end, err
		}
		if err := errors.Join(side.ns.AddAddr(wgLink, side.inside), side.ns.SetUp(wgLink, true)); err != nil {
			return end, err
		}
	}
	return end, nil
}

func wgKey[K ~[32]byte](k K) string {
	b := [32]byte(k)
	return hex.EncodeToString(b[:])
}
