package errs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The list is what docs/errors.md is checked against, so its form is a promise:
// one line per reason, with a standard code and advice, and names that follow
// from the values.
func TestReasons_formOfTheList(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, parser.ParseComments)
	require.NoError(t, err)

	comment := regexp.MustCompile(`^(CANCELED|INVALID_ARGUMENT|DEADLINE_EXCEEDED|NOT_FOUND|ALREADY_EXISTS|PERMISSION_DENIED|` +
		`RESOURCE_EXHAUSTED|FAILED_PRECONDITION|ABORTED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|UNAUTHENTICATED): .+; .+\.$`)
	value := regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`)
	seen := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		name := spec.Names[0].Name
		literal, ok := spec.Values[0].(*ast.BasicLit)
		require.True(t, ok, name)
		reason, err := strconv.Unquote(literal.Value)
		require.NoError(t, err)
		require.Regexp(t, comment, strings.TrimSpace(spec.Doc.Text()), name)
		require.Regexp(t, value, reason)
		require.LessOrEqual(t, len(reason), 63, "google.rpc.ErrorInfo limits reasons to 63 characters")
		require.Equal(t, "reason"+strings.ReplaceAll(strings.ToLower(reason), "_", ""), strings.ToLower(name))
		require.False(t, seen[reason], "%s is there twice", reason)
		seen[reason] = true
		return true
	})
	require.Greater(t, len(seen), 40)
}
