// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/xdp-roam/xdp-roam/cmd/xdp-roam/internal/config"
	"github.com/xdp-roam/xdp-roam/userspace/handshake"
)

func newKeygenCommand(e *env) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "keygen [-o FILE]",
		Short: "Make a private key",
		Long: `keygen writes a new private key to stdout, in base64, as "wg genkey" does.
With -o it writes the key to a new file that only its owner may read, and the
public key to stdout; a file that exists is never overwritten.`,
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
				e.warnWorldReadable()
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

func newPubkeyCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "pubkey",
		Short:   "Read a private key on stdin, write its public key",
		Example: `  xdp-roam pubkey < server.key`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if isTerminal(e.stdin) {
				fmt.Fprintln(e.stderr, "reading a private key from the terminal; end it with Enter and Ctrl-D")
			}
			key, err := parsePrivateKey(e.stdin)
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
func (e *env) warnWorldReadable() {
	file, ok := e.stdout.(*os.File)
	if !ok {
		return
	}
	info, err := file.Stat()
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		fmt.Fprintln(e.stderr, "warning: the private key goes to a file that others can read; set `umask 077` first, or use `xdp-roam keygen -o FILE`")
	}
}

// writeKeyFile makes name with mode 0600 and the key in it, or nothing at all.
func writeKeyFile(name string, key []byte) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &fault{code: exitConflict, what: fmt.Sprintf("%s exists and is not overwritten", name), fix: "name another file, or remove it if its key is not in use"}
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

// readKeyFile reads what keygen wrote. A key that every user of the machine
// can read is no secret, so it is refused.
func readKeyFile(name string) (handshake.PrivateKey, error) {
	file, err := os.Open(name)
	if err != nil {
		f := &fault{what: "cannot read the private key", err: err}
		if errors.Is(err, fs.ErrNotExist) {
			f.fix = "xdp-roam keygen -o " + name
		}
		return handshake.PrivateKey{}, f
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return handshake.PrivateKey{}, fmt.Errorf("cannot read the private key: %w", err)
	}
	// Windows has no such bits; Go makes them up.
	if runtime.GOOS != "windows" && info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		return handshake.PrivateKey{}, &fault{code: exitPermission, what: fmt.Sprintf("the private key %s can be read by everyone (mode %04o)", name, info.Mode().Perm()), fix: "chmod 600 " + name}
	}
	key, err := parsePrivateKey(file)
	if err != nil {
		return handshake.PrivateKey{}, &fault{code: exitUsage, what: name + " holds no private key", err: err}
	}
	return key, nil
}

// readPreviousKey reads the key before the one in use; none where none is configured.
func readPreviousKey(conf config.Config, key handshake.PrivateKey) ([]handshake.PrivateKey, error) {
	if conf.PreviousKeyFile == "" {
		return nil, nil
	}
	previous, err := readKeyFile(conf.PreviousKeyFile)
	if err == nil && previous == key {
		err = &fault{code: exitUsage, what: fmt.Sprintf("previous_key_file: %s holds the key of %s", conf.PreviousKeyFile, conf.KeyFile), fix: "name the file with the key before it, or none"}
	}
	return []handshake.PrivateKey{previous}, err
}

func parsePrivateKey(r io.Reader) (handshake.PrivateKey, error) {
	var key handshake.PrivateKey
	text, err := io.ReadAll(io.LimitReader(r, 1024))
	if err != nil {
		return key, err
	}
	if err := key.UnmarshalText(text); err != nil {
		return key, err
	}
	if key.IsZero() {
		return key, fmt.Errorf("%w: all its bytes are zero", handshake.ErrBadKey)
	}
	return key, nil
}
