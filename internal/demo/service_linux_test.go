// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// The service answers the client's datagrams, reports them by number, and
// neither answers nor hides what is not the client's.
func TestService(t *testing.T) {
	// An address of this process's own, and no port that a socket is given by itself.
	port := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 9, byte(os.Getpid() >> 8), byte(os.Getpid())}), 9)
	input, director := io.Pipe()
	reports, output := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- runService(context.Background(), input, output)
		output.Close()
	}()
	messages := json.NewDecoder(bufio.NewReader(reports))
	if err := json.NewEncoder(director).Encode(Setup{Stamp: 42, Listen: port}); err != nil {
		t.Fatal(err)
	}
	var m Message
	if err := messages.Decode(&m); err != nil || !m.Ready {
		t.Fatalf("%+v, %v", m, err)
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ours := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, 42), 7)
	for _, datagram := range [][]byte{binary.BigEndian.AppendUint64(nil, 43), ours} {
		if _, err := conn.Write(datagram); err != nil {
			t.Fatal(err)
		}
	}
	conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	answer := make([]byte, 100)
	if size, err := conn.Read(answer); err != nil || string(answer[:size]) != string(ours) {
		t.Fatalf("answer %x, %v", answer[:size], err)
	}
	director.Close()
	var total Message
	for {
		var m Message
		if err := messages.Decode(&m); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		total.Arrived = append(total.Arrived, m.Arrived...)
		total.Unknown += m.Unknown
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(total.Arrived) != 1 || total.Arrived[0].Number() != 7 || total.Unknown != 1 {
		t.Errorf("reported %+v", total)
	}
	if ago := now().Sub(total.Arrived[0].At()); ago < 0 || ago > time.Minute {
		t.Errorf("arrived %v ago", ago)
	}
}

func TestPartsSayWhatIsWrong(t *testing.T) {
	for part, want := range map[string]string{
		"nobody": "no part", PartService: "setup", PartClient: "setup", PartAttacker: "setup",
	} {
		err := RunPart(context.Background(), part, strings.NewReader("no JSON"), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", part, err, want)
		}
	}
	bad := `{"servers":["192.0.2.1:7626"],"server_key":"x","listen":"127.0.0.1:0"}`
	for _, part := range []string{PartClient, PartAttacker} {
		if err := RunPart(context.Background(), part, strings.NewReader(bad), io.Discard); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s with a bad key: %v", part, err)
		}
	}
}
