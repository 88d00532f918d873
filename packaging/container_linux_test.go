// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/xdp-roam/xdp-roam/internal/testutil"
)

// TestContainer builds the recipe's image as `make container` does, without a base image
// or a network, looks that nothing but the program is in it, and runs that there.
func TestContainer(t *testing.T) {
	testutil.RequirePrivileged(t)
	if _, err := exec.LookPath("buildah"); err != nil {
		t.Skip("no buildah to build an image with: apt-get install buildah")
	}
	store := t.TempDir()
	buildah := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "buildah", append([]string{
			"--root", filepath.Join(store, "root"), "--runroot", filepath.Join(store, "run"), "--storage-driver", "vfs",
		}, args...)...)
		cmd.Dir = ".."
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("buildah %s: %v\n%s", args[0], err, said.String())
		}
		return strings.TrimSpace(string(out))
	}
	built := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "packaging/build.sh", filepath.Join(built, "xdp-roam"), runtime.GOARCH)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "VERSION=1.2.3", "COMMIT=0123456789ab", "DATE=2026-01-02T03:04:05Z")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	buildah("build", "--isolation", "chroot", "--pull-never", "--build-context", "build="+built, "-t", "xdp-roam", "-f", "packaging/Containerfile", ".")
	container := buildah("from", "--pull-never", "xdp-roam")
	defer buildah("rm", container)
	defer buildah("umount", container)
	files, err := os.ReadDir(buildah("mount", container))
	if err != nil || len(files) != 1 || files[0].Name() != "xdp-roam" {
		t.Errorf("the image holds %v (%v), want the program alone", files, err)
	}
	if out := buildah("run", "--isolation", "chroot", container, "/xdp-roam", "version"); !strings.Contains(out, "1.2.3") {
		t.Errorf("in the container it says %q", out)
	}
	var image struct {
		OCIv1 struct {
			Config struct{ Entrypoint, Cmd []string }
		}
	}
	if err := json.Unmarshal([]byte(buildah("inspect", "--type", "image", "xdp-roam")), &image); err != nil {
		t.Fatal(err)
	}
	if c := image.OCIv1.Config; !slices.Equal(c.Entrypoint, []string{"/xdp-roam"}) || !slices.Equal(c.Cmd, []string{"run", "--config", "/etc/xdp-roam/edge.toml"}) {
		t.Errorf("it runs %q %q", c.Entrypoint, c.Cmd)
	}
}
