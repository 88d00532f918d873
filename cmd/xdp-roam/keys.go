// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

func newKeygenCommand(e *env) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "keygen [-o FILE]",
		Short: "Generate a private key",
		Long: `keygen writes a new private key to stdout, in base64, like "wg genkey". With -o it
writes the key to a new file that only its owner can read, and the public key to
stdout; it never overwrites an existing file.`,
		Example: `  xdp-roam keygen -o server.key > server.pub
  xdp-roam keygen | tee client.key | xdp-roam pubkey`,
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			key := handshake.NewPrivateKey()
			text, err := key.MarshalText()
			if err != nil {
				return err
			}
			if output == "" {
				e.warnWorldReadable("private", "keygen")
				_, err = fmt.Fprintf(e.stdout, "%s\n", text)
				return err
			}
			if err := writeKeyFile(output, text); err != nil {
				return err
			}
			_, err = fmt.Fprintln(e.stdout, key.Public())
			return err
		},
	}
	// Hides the global -o on purpose: a key has one form, and a file is what people mean here.
	c.Flags().StringVarP(&output, "output", "o", "", "write the key to this new `FILE` and the public key to stdout")
	return c
}

func newGenpskCommand(e *env) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "genpsk [-o FILE]",
		Short: "Generate a preshared key",
		Long: `genpsk writes a new preshared key to stdout, in base64, like "wg genpsk": a secret
shared by one client and its server, in addition to their keys. The server has it in
authorized_keys (psk= or psk-file=), the client in --psk-file.
With -o it writes the key to a new file that only its owner can read.`,
		Example: `  xdp-roam genpsk -o alice.psk`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			text, err := handshake.PSK(handshake.NewPrivateKey()).MarshalText()
			if err != nil {
				return err
			}
			if output == "" {
				e.warnWorldReadable("preshared", "genpsk")
				_, err = fmt.Fprintf(e.stdout, "%s\n", text)
				return err
			}
			return writeKeyFile(output, text)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "write the key to this new `FILE`")
	return c
}

func newPubkeyCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "pubkey",
		Short: "Print the public key of a private key",
		Long: `pubkey reads a private key, as written by keygen, from stdin and writes its public key to
stdout, like "wg pubkey".`,
		Example: `  xdp-roam pubkey < server.key`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if isTerminal(e.stdin) {
				fmt.Fprintln(e.stderr, "reading a private key from the terminal; end it with Enter and Ctrl-D")
			}
			key, err := config.ParseSecret[handshake.PrivateKey](e.stdin)
			if err != nil {
				return &fault{what: "stdin holds no private key", err: err, fix: "xdp-roam keygen | xdp-roam pubkey"}
			}
			_, err = fmt.Fprintln(e.stdout, key.Public())
			return err
		},
	}
}

// warnWorldReadable says so when stdout is a file that everyone can open: the
// umask is at fault, and only the caller can change it.
func (e *env) warnWorldReadable(kind, command string) {
	file, ok := e.stdout.(*os.File)
	if !ok {
		return
	}
	info, err := file.Stat()
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		fmt.Fprintf(e.stderr, "warning: the %s key goes to a file that others can read; set `umask 077` first, or use `xdp-roam %s -o FILE`\n", kind, command)
	}
}

// writeKeyFile makes name with mode 0600 and the key in it, or nothing at all.
func writeKeyFile(name string, key []byte) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &fault{code: exitConflict, what: fmt.Sprintf("%s already exists and is not overwritten", name), fix: "choose another file, or remove it if its key is not in use"}
	}
	if err != nil {
		return fmt.Errorf("cannot write the key: %w", err)
	}
	_, err = file.Write(append(key, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		os.Remove(name)
		return fmt.Errorf("cannot write the key: %w", err)
	}
	return nil
}

// readKeyFile reads what keygen wrote.
func readKeyFile(name string) (handshake.PrivateKey, error) {
	return config.ReadSecret[handshake.PrivateKey](name, "private key")
}

// readPreviousKey reads the key before the one in use; none where none is configured.
func readPreviousKey(conf config.Config, key handshake.PrivateKey) ([]handshake.PrivateKey, error) {
	if conf.PreviousKeyFile == "" {
		return nil, nil
	}
	previous, err := readKeyFile(conf.PreviousKeyFile)
	if err == nil && previous == key {
		err = &fault{code: exitUsage, what: fmt.Sprintf("previous_key_file: %s holds the key of %s", conf.PreviousKeyFile, conf.KeyFile), fix: "set it to the file with the previous key, or remove it"}
	}
	return []handshake.PrivateKey{previous}, err
}
