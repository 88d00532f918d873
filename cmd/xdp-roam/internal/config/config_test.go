// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const whole = `
listen = "192.0.2.1:7000"
interfaces = ["eth0", "eth1"]
mode = "xdp"
key_file = "server.key"
authorized_keys = "/etc/xdp-roam/authorized_keys"
state_dir = "state"
table_slots = 4096
cookie = "always"
instance = "edge-2"

[[service]]
port = 7
backend = "echo:"

[[service]]
port = 53
backend = "udp://127.0.0.1:53"
`

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "roam.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// anyBackend stands for the service package, which judges backends itself.
func anyBackend(s Service) error {
	if s.Backend == "" {
		return errors.New("no backend")
	}
	return nil
}

func TestFileOverridesDefaults(t *testing.T) {
	name := write(t, whole)
	got := Default()
	if err := got.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	want := Config{
		Listen: "192.0.2.1:7000", Interfaces: []string{"eth0", "eth1"}, Mode: ModeXDP,
		KeyFile:        filepath.Join(filepath.Dir(name), "server.key"),
		AuthorizedKeys: "/etc/xdp-roam/authorized_keys",
		StateDir:       filepath.Join(filepath.Dir(name), "state"),
		TableSlots:     4096, Cookie: "always", Instance: "edge-2",
		Services: []Service{{Port: 7, Backend: "echo:"}, {Port: 53, Backend: "udp://127.0.0.1:53"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := got.Validate(anyBackend); err != nil {
		t.Error(err)
	}
}

func TestEmptyFileChangesNothing(t *testing.T) {
	got := Default()
	if err := got.ReadFile(write(t, "# nothing\n")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Error(diff)
	}
}

func TestBadFiles(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":         {"listen = \":1\"\ninterface = [\"eth0\"]\n", `roam.toml:2: unknown key "interface"; did you mean "interfaces"?`},
		"unknown service key": {"[[service]]\nport = 7\nbackened = \"echo:\"\n", `roam.toml:3: unknown key "service.backened"; did you mean "backend"?`},
		"unknown table":       {"\n[stats]\nport = 9\n", `roam.toml:2: unknown key "stats"`},
		"unknown metrics key": {"[metrics]\npages = true\n", `roam.toml:2: unknown key "metrics.pages"; did you mean "page"?`},
		"unknown far key":     {"zzzzzz = 1\n", `unknown key "zzzzzz"`},
		"quoted unknown key":  {"\"mode \" = 1\n", `unknown key`},
		"syntax":              {"listen = \n", `roam.toml:1: `},
		"no quotes":           {"mode = auto\n", `roam.toml:1: `},
		"twice":               {"mode = \"auto\"\nmode = \"xdp\"\n", `roam.toml:2: `},
		"wrong type":          {"listen = 7626\n", `listen`},
		"number as text":      {"table_slots = \"1024\"\n", `table_slots`},
		"negative":            {"table_slots = -1\n", `table_slots`},
		"too large":           {"table_slots = 99999999999\n", `table_slots`},
		"service port":        {"[[service]]\nport = 65536\n", `port`},
		"service no list":     {"[service]\nport = 7\n", `service`},
		"interfaces no list":  {"interfaces = \"eth0\"\n", `interfaces`},
		"not UTF-8":           {"listen = \"\xff\"\n", `roam.toml:1`},
	} {
		t.Run(name, func(t *testing.T) {
			got := Default()
			err := got.ReadFile(write(t, c.text))
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want ErrInvalid with %q", err, c.want)
			}
			if diff := cmp.Diff(Default(), got); diff != "" {
				t.Errorf("a bad file changed the configuration: %s", diff)
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	c := Default()
	if err := c.ReadFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
}

func TestValidate(t *testing.T) {
	good := func() Config {
		c := Default()
		c.KeyFile, c.AllowAnonymous = "k", true
		c.Services = []Service{{Port: 7, Backend: "echo:"}}
		return c
	}
	base := good()
	if err := base.Validate(anyBackend); err != nil {
		t.Fatalf("the base of this table: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"listen name":         {func(c *Config) { c.Listen = "localhost:7626" }, []string{`listen: "localhost:7626" is not an address`}},
		"listen no port":      {func(c *Config) { c.Listen = "192.0.2.1" }, []string{"listen:"}},
		"listen big port":     {func(c *Config) { c.Listen = ":70000" }, []string{"listen:"}},
		"listen empty":        {func(c *Config) { c.Listen = "" }, []string{"listen:"}},
		"interface slash":     {func(c *Config) { c.Interfaces = []string{"eth/0"} }, []string{`interfaces: "eth/0"`}},
		"interface long":      {func(c *Config) { c.Interfaces = []string{strings.Repeat("e", 16)} }, []string{"interfaces:"}},
		"interface empty":     {func(c *Config) { c.Interfaces = []string{""} }, []string{"interfaces:"}},
		"interface twice":     {func(c *Config) { c.Interfaces = []string{"a", "a"} }, []string{`"a" is named twice`}},
		"socket with eth":     {func(c *Config) { c.Interfaces, c.Mode = []string{"a"}, ModeSocket }, []string{`mode "socket" attaches to no interface`}},
		"none with eth":       {func(c *Config) { c.Interfaces, c.Mode = []string{"a"}, ModeNone }, []string{`mode "none" attaches to no interface`}},
		"xdp without":         {func(c *Config) { c.Mode = ModeXDP }, []string{`mode "xdp" needs at least one interface`}},
		"generic without":     {func(c *Config) { c.Mode = ModeGeneric }, []string{`mode "generic" needs`}},
		"afxdp without":       {func(c *Config) { c.Mode = ModeAFXDP }, []string{`mode "afxdp" needs`}},
		"mode":                {func(c *Config) { c.Mode = "socke" }, []string{`mode: "socke" is none of auto, afxdp, xdp, generic, socket, none; did you mean "socket"?`}},
		"cookie":              {func(c *Config) { c.Cookie = "alway" }, []string{`cookie: "alway"`, `did you mean "always"?`}},
		"no key":              {func(c *Config) { c.KeyFile = "" }, []string{"key_file: not set", "keygen"}},
		"nobody":              {func(c *Config) { c.AllowAnonymous = false }, []string{"authorized_keys: not set", "allow_anonymous"}},
		"both":                {func(c *Config) { c.AuthorizedKeys = "a" }, []string{"allow_anonymous: true together with authorized_keys"}},
		"state":               {func(c *Config) { c.StateDir = "" }, []string{"state_dir:"}},
		"slots odd":           {func(c *Config) { c.TableSlots = 1000 }, []string{"table_slots: 1000 is not a power of two"}},
		"slots few":           {func(c *Config) { c.TableSlots = 32 }, []string{"table_slots: 32"}},
		"slots zero":          {func(c *Config) { c.TableSlots = 0 }, []string{"table_slots: 0"}},
		"slots many":          {func(c *Config) { c.TableSlots = 1 << 29 }, []string{"table_slots:"}},
		"instance path":       {func(c *Config) { c.Instance = "../x" }, []string{`instance: "../x"`}},
		"instance empty":      {func(c *Config) { c.Instance = "" }, []string{"instance:"}},
		"instance long":       {func(c *Config) { c.Instance = strings.Repeat("a", 33) }, []string{"instance:"}},
		"no service":          {func(c *Config) { c.Services = nil }, []string{"service: none", "[[service]]"}},
		"service port 0":      {func(c *Config) { c.Services[0].Port = 0 }, []string{"port 0"}},
		"service twice":       {func(c *Config) { c.Services = append(c.Services, c.Services[0]) }, []string{"port 7 is given twice"}},
		"service backend":     {func(c *Config) { c.Services[0].Backend = "" }, []string{"service 7: no backend"}},
		"addresses, a name":   {func(c *Config) { c.Addresses = []string{"edge.example"} }, []string{`addresses: "edge.example" is not an address`}},
		"addresses, any":      {func(c *Config) { c.Addresses = []string{"0.0.0.0"} }, []string{`addresses: "0.0.0.0" is nothing`}},
		"addresses, port 0":   {func(c *Config) { c.Addresses = []string{"192.0.2.1:0"} }, []string{`addresses: "192.0.2.1:0" is nothing`}},
		"addresses, twice":    {func(c *Config) { c.Addresses = []string{"192.0.2.1", "192.0.2.1:7626"} }, []string{`addresses: "192.0.2.1:7626" is there twice`}},
		"addresses, too many": {func(c *Config) { c.Addresses = make([]string, 9) }, []string{"addresses: 9 of them"}},
		"previous key":        {func(c *Config) { c.PreviousKeyFile = c.KeyFile }, []string{"previous_key_file:"}},
		"everything wrong":    {func(c *Config) { c.Listen, c.Cookie = "", "" }, []string{"listen:", "cookie:"}},
	} {
		t.Run(name, func(t *testing.T) {
			conf := good()
			c.change(&conf)
			err := conf.Validate(anyBackend)
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v, want ErrInvalid", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestAddress(t *testing.T) {
	for text, want := range map[string]string{
		":7626": "[::]:7626", "0.0.0.0:1": "0.0.0.0:1", "[2001:db8::1]:7626": "[2001:db8::1]:7626",
	} {
		c := Config{Listen: text}
		if got, err := c.Address(); err != nil || got != netip.MustParseAddrPort(want) {
			t.Errorf("%s: %v %v, want %s", text, got, err, want)
		}
	}
}

func TestParseService(t *testing.T) {
	if got, err := ParseService("53=udp://127.0.0.1:53?a=b"); err != nil || got != (Service{Port: 53, Backend: "udp://127.0.0.1:53?a=b"}) {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"", "7", "=echo:", "x=echo:", "65536=echo:", "-1=echo:", "7:echo:"} {
		if got, err := ParseService(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v %v, want ErrInvalid", bad, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add("a.b.c = 1\n[x.\"y z\"]\n")
	f.Add("[[service]]\nport=7\n[[service.x]]\ny=1")
	f.Fuzz(func(t *testing.T, text string) {
		c := Default()
		if err := DecodeStrict("f", text, &c); err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%q: %v does not wrap ErrInvalid", text, err)
			}
			return
		}
		_ = c.Validate(anyBackend)
	})
}

func TestServerAddresses(t *testing.T) {
	c := Config{Listen: ":443", Addresses: []string{"192.0.2.1", "192.0.2.1:7626", "2001:db8::1", "[2001:db8::2]", "[2001:db8::3]:9"}}
	list, err := c.ServerAddresses()
	if got, want := fmt.Sprint(list), "[192.0.2.1:443 192.0.2.1:7626 [2001:db8::1]:443 [2001:db8::2]:443 [2001:db8::3]:9]"; err != nil || got != want {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}
