package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/internal/keyring"
)

func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	var stdout, stderr bytes.Buffer
	require.NoError(t, run([]string{path}, &stdout, &stderr))
	require.Empty(t, stderr.String())
	_, err := keyring.Load(path)
	require.NoError(t, err)
	before, err := os.ReadFile(path)
	require.NoError(t, err)

	require.NoError(t, run([]string{path}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "is there already")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.Empty(t, stdout.String())

	require.ErrorIs(t, run(nil, &stdout, &stderr), errUsage)
	require.ErrorIs(t, run([]string{"promote", path}, &stdout, &stderr), errUsage)
	require.ErrorIs(t, run([]string{"forget", path, "x"}, &stdout, &stderr), errUsage)
	require.Error(t, run([]string{filepath.Join(path, "below")}, &stdout, &stderr))
}

func TestRun_rotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	var stderr bytes.Buffer
	require.NoError(t, run([]string{path}, &stderr, &stderr))
	k, err := keyring.Load(path)
	require.NoError(t, err)
	old := k.Primary()
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{"list", path}, "primary: " + old + "\nothers: none\n"},
		{[]string{"add", path, "new"}, "added: new\nprimary: " + old + "\nothers: new\n"},
		{[]string{"promote", path, "new"}, "primary: new\nothers: " + old + "\n"},
		{[]string{"remove", path, old}, "primary: new\nothers: none\n"},
	} {
		var stdout bytes.Buffer
		require.NoError(t, run(step.args, &stdout, &stderr), "%v", step.args)
		require.Equal(t, step.want, stdout.String())
	}
	require.ErrorContains(t, run([]string{"remove", path, "new"}, &stderr, &stderr), "is the primary key")
	require.NoError(t, run([]string{"add", path}, &stderr, &stderr))
	require.Contains(t, stderr.String(), "added: key-")
}
