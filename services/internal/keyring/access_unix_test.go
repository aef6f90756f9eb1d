//go:build unix

package keyring_test

import (
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/keyring"
)

const loadAsOther = "TWOFOLD_TEST_LOAD_KEYS"

// A process of user and group 65532 reads a file of root's, as in a pod whose
// fsGroup is 65532. Only root can set that up.
func TestLoad_fileOfRootHandedToTheGroup(t *testing.T) {
	if path := os.Getenv(loadAsOther); path != "" {
		_, err := keyring.Load(path)
		require.NoError(t, err)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	dir, err := os.MkdirTemp("", "keys") //nolint:usetesting // what is above t.TempDir is closed to others
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // for the other user
	program, path := filepath.Join(dir, "program"), filepath.Join(dir, "keys.json")
	copyFile(t, program, "/proc/self/exe")
	require.NoError(t, keyring.Generate(path))
	require.NoError(t, os.Chown(path, 0, 65532))

	load := func(mode fs.FileMode) ([]byte, error) {
		require.NoError(t, os.Chmod(path, mode))
		command := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v")
		command.Dir, command.Env = dir, append(os.Environ(), loadAsOther+"="+path)
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
		return command.CombinedOutput()
	}
	output, err := load(0o440)
	require.NoError(t, err, "%s", output)
	require.Contains(t, string(output), "--- PASS: "+t.Name())
	output, err = load(0o444)
	require.Error(t, err)
	require.Contains(t, string(output), "others than this process may use it")
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	source, err := os.Open(from)
	require.NoError(t, err)
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755) //nolint:gosec // for the other user
	require.NoError(t, err)
	_, err = io.Copy(target, source)
	require.NoError(t, err)
	require.NoError(t, source.Close())
	require.NoError(t, target.Close())
}
