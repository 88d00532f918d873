// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"sync"
	"time"
)

// protocol is the ALPN name, so that another version can tell itself apart.
const protocol = "roam-stream/1"

// The TLS inside has no identity: the certificate is made for this process and
// the client looks at no name in it. That is safe because every byte of this TLS
// travels in datagrams of a session whose ends have proven their static keys to
// each other (Noise IK) and whose every packet is authenticated with keys that
// only those two have: who could put himself between the two TLS ends could
// already forge the session, and TLS would be one handshake for him. For the same
// reason nothing binds it to the session (there is no other channel that its
// bytes could be carried over from), and an application takes the peer's
// identity from the session, never from here.
var certificate = sync.OnceValues(func() (tls.Certificate, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	// No dates to speak of: nobody verifies them, and a wrong clock must not matter.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, nil
})

func baseTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{protocol},
		// One packet each way: secrecy beyond the session's own is not asked of it.
		CurvePreferences:       []tls.CurveID{tls.X25519},
		SessionTicketsDisabled: true,
	}
}

func clientTLS() *tls.Config {
	c := baseTLS()
	c.ServerName = "roam"
	c.InsecureSkipVerify = true // see certificate
	return c
}

func serverTLS() (*tls.Config, error) {
	cert, err := certificate()
	if err != nil {
		return nil, err
	}
	c := baseTLS()
	c.Certificates = []tls.Certificate{cert}
	return c, nil
}
