// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/forward"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

func read(t *testing.T, text string) (*File, string, error) {
	t.Helper()
	directory := t.TempDir()
	name := filepath.Join(directory, "config.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Read(name)
	return f, directory, err
}

func TestRead(t *testing.T) {
	t.Setenv("HOME", "/home/alice")
	key := handshake.NewPrivateKey().Public()
	f, directory, err := read(t, `
identity = "client.key"

[server.office]
address = "edge.example.net"
server_key = "`+key.String()+`"
identity = "~/office.key"
psk_file = "/etc/office.psk"
forward = ["2222:ssh", "[::1]:5353:53/udp"]
idle_timeout = "90s"

[server.home]
address = "192.0.2.1:443"
`)
	if err != nil {
		t.Fatal(err)
	}
	rule := func(text string) forward.Rule {
		r, err := forward.ParseRule(text, forward.NetworkTCP)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	office, ok := f.Profile("office")
	want := Profile{
		Address: "edge.example.net", ServerKey: key, Identity: "/home/alice/office.key", PSKFile: "/etc/office.psk",
		Forward: []forward.Rule{rule("2222:22"), rule("[::1]:5353:53/udp")}, IdleTimeout: 90 * time.Second,
	}
	if runtime.GOOS != "windows" && (!ok || !reflect.DeepEqual(office, want)) {
		t.Errorf("office: %+v, want %+v", office, want)
	}
	home, ok := f.Profile("home")
	if !ok || home.Address != "192.0.2.1:443" || !home.ServerKey.IsZero() || home.Identity != filepath.Join(directory, "client.key") || home.Forward != nil {
		t.Errorf("home: %+v", home)
	}
	if _, ok := f.Profile("elsewhere"); ok {
		t.Error("a profile that nobody wrote")
	}
	if names := f.Names(); !reflect.DeepEqual(names, []string{"home", "office"}) {
		t.Errorf("names %q", names)
	}
}

func TestReadNothing(t *testing.T) {
	f, err := Read(filepath.Join(t.TempDir(), "none.toml"))
	if err != nil || len(f.Names()) != 0 {
		t.Errorf("%+v %v", f, err)
	}
	if _, err := Read(t.TempDir()); err == nil || errors.Is(err, config.ErrInvalid) {
		t.Errorf("a directory: %v", err)
	}
}

func TestBadProfiles(t *testing.T) {
	for text, want := range map[string]string{
		"[server.a]\naddress = 'x'\nsever_key = 'k'":                    `config.toml:3: unknown key "server.a.sever_key"; did you mean "server_key"?`,
		"[server.b]\naddress = 'x'\n[server.a]\naddress = 'x'\nfwd = 1": `config.toml:5: unknown key "server.a.fwd"`,
		"identiy = 'x'": `config.toml:1: unknown key "identiy"; did you mean "identity"?`,
		"[server.a]":    `config.toml:1: profile "a" has no address`,
		"[server.a]\naddress = 'x'\nserver_key = 'x'":   "config.toml:3: not a key",
		"[server.a]\naddress = 'x'\nforward = ['80']":   `config.toml:3: "80": no colon in it`,
		"[server.a]\naddress = 'x'\nforward = '1:2'":    `config.toml:3: it is of type string where slice belongs`,
		"[server.a]\naddress = 'x'\nidle_timeout='1'":   `config.toml:3: idle_timeout "1"`,
		"[server.a]\naddress = 'x'\nidle_timeout='1ms'": `config.toml:3: idle_timeout "1ms"`,
		"[server.'a b']\naddress = 'x'":                 `config.toml:1: "a b" is no name for a profile`,
		"[server.a]\naddress = 5":                       `config.toml:2: it is of type int64 where string belongs (at server.a.address)`,
		"[server.a]\naddress = 'x:99999'":               `config.toml:2: bad client configuration: server "x:99999": the port is a number`,
		"[server.a]\naddress = 'me@x'":                  `config.toml:2: address "me@x": write the server's name`,
		"[server.a":                                     "config.toml:1",
	} {
		if _, _, err := read(t, text); !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
