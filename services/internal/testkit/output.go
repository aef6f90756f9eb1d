package testkit

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Output is everything the program has written since its first start.
func (p *Process) Output(t testing.TB) []byte {
	t.Helper()
	output, err := os.ReadFile(filepath.Join(p.dir, logName))
	require.NoError(t, err)
	return output
}
