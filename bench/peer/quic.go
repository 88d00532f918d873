// SPDX-License-Identifier: Apache-2.0

//go:build linux

package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/xdp-roam/xdp-roam/internal/bench/harness"
	"github.com/xdp-roam/xdp-roam/internal/bench/network"
)

// quicPort is where the QUIC server listens, and protocol what both ends speak.
const (
	quicPort = 4433
	protocol = "datagrams"
)

// quicConfig lets a datagram of 1400 bytes be one packet.
var quicConfig = &quic.Config{EnableDatagrams: true, InitialPacketSize: 1452}

// QUIC is a quic-go server that gets datagrams from a client, which is a process of
// its own, so that its CPU time is not counted.
type QUIC struct {
	listener *quic.Listener
	conn     *net.UDPConn
	client   *exec.Cmd
	accepted *quic.Conn
	received atomic.Uint64
	done     chan struct{}
}

// NewQUIC starts both. client is the command that runs SendQUIC. The caller closes it.
func NewQUIC(ctx context.Context, w *network.Wire, client *exec.Cmd) (q *QUIC, err error) {
	q = &QUIC{client: client, done: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, q.Close())
		}
	}()
	if q.conn, err = w.Server.ListenUDP(netip.AddrPortFrom(network.ServerAddr, quicPort)); err != nil {
		return q, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return q, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return q, err
	}
	q.listener, err = quic.Listen(q.conn, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}, NextProtos: []string{protocol},
	}, quicConfig)
	if err != nil {
		return q, err
	}
	// It gets the CPU of the thread that starts it.
	if err := w.Client.Do(func() error { return harness.OwnCPU(network.GeneratorCPU) }); err != nil {
		return q, err
	}
	if err := w.Client.Start(client); err != nil {
		return q, err
	}
	accepting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := q.listener.Accept(accepting)
	if err != nil {
		return q, err
	}
	q.accepted = c
	go func() {
		defer close(q.done)
		for {
			if _, err := c.ReceiveDatagram(context.Background()); err != nil {
				return
			}
			q.received.Add(1)
		}
	}()
	return q, nil
}

// Received counts the datagrams.
func (q *QUIC) Received() uint64 { return q.received.Load() }

// Sent counts the packets that the server has sent: acknowledgements.
func (q *QUIC) Sent() uint64 { return q.accepted.ConnectionStats().PacketsSent }

// Wait waits for n datagrams more.
func (q *QUIC) Wait(ctx context.Context, n int) error {
	for want, end := q.Received()+uint64(n), time.Now().Add(patience); q.Received() < want; time.Sleep(time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("quic-go: %d datagrams are missing", want-q.Received())
		}
	}
	return nil
}

// Close ends the client and the server.
func (q *QUIC) Close() error {
	var err error
	if q.listener != nil {
		err = q.listener.Close()
	}
	if q.client.Process != nil {
		_ = q.client.Process.Kill() // it knows no other end
		_ = q.client.Wait()         // killed
	}
	if q.conn != nil {
		err = errors.Join(err, q.conn.Close())
	}
	return err
}

// SendQUIC sends datagrams of size to NewQUIC's server until it is killed.
func SendQUIC(ctx context.Context, size int) error {
	c, err := quic.DialAddr(ctx, netip.AddrPortFrom(network.ServerAddr, quicPort).String(),
		&tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}, quicConfig) // it is our own server
	if err != nil {
		return err
	}
	for b := make([]byte, size); ; {
		if err := c.SendDatagram(b); err != nil {
			return err
		}
	}
}
