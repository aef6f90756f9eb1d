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
	var stderr bytes.Buffer
	require.NoError(t, run([]string{path}, &stderr))
	require.Empty(t, stderr.String())
	_, err := keyring.Load(path)
	require.NoError(t, err)
	before, err := os.ReadFile(path)
	require.NoError(t, err)

	require.NoError(t, run([]string{path}, &stderr))
	require.Contains(t, stderr.String(), "is there already")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)

	require.Error(t, run(nil, &stderr))
	require.Error(t, run([]string{filepath.Join(path, "below")}, &stderr))
}
