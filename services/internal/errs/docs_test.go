package errs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// row is what is said of a reason.
type row struct{ code, meaning, advice string }

// httpStatus is how grpc-gateway renders the codes, and where the gateway differs.
func httpStatus(reason, code string) string {
	switch reason {
	case ReasonMessageTooLarge:
		return "413"
	case ReasonMethodUnknown:
		return "404, 405"
	}
	return map[string]string{
		"INVALID_ARGUMENT": "400", "FAILED_PRECONDITION": "400", "UNAUTHENTICATED": "401", "PERMISSION_DENIED": "403",
		"NOT_FOUND": "404", "ALREADY_EXISTS": "409", "ABORTED": "409", "RESOURCE_EXHAUSTED": "429", "CANCELED": "499",
		"INTERNAL": "500", "UNAVAILABLE": "503", "DEADLINE_EXCEEDED": "504",
	}[code]
}

// The page for callers says what the code says: each reason, once, with the same
// words, and no reason besides.
func TestReasons_areDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../docs/errors.md")
	require.NoError(t, err)
	line := regexp.MustCompile("(?m)^\\| `([A-Z0-9_]+)` \\| ([A-Z_]+) \\| ([0-9, ]+) \\| (.+)\\. \\| (.+)\\. \\|$")
	documented := map[string]row{}
	for _, m := range line.FindAllStringSubmatch(string(page), -1) {
		reason, code, status := m[1], m[2], m[3]
		require.NotContains(t, documented, reason, "%s is there twice", reason)
		documented[reason] = row{code, m[4], m[5]}
		require.Equal(t, httpStatus(reason, code), status, reason)
	}
	require.Equal(t, inCode(t), documented)
	require.Len(t, documented, strings.Count(string(page), "\n| `")-strings.Count(string(page), "\n| `google.rpc."),
		"a row is not of the form that this test reads")
}

// inCode returns what the comments in reasons.go say, in the words of the page.
func inCode(t *testing.T) map[string]row {
	file, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, parser.ParseComments)
	require.NoError(t, err)
	comment := regexp.MustCompile(`^([A-Z_]+): (.+); (.+)\.$`)
	reasons := map[string]row{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		require.True(t, ok)
		reason, err := strconv.Unquote(literal.Value)
		require.NoError(t, err)
		m := comment.FindStringSubmatch(strings.TrimSpace(spec.Doc.Text()))
		require.NotNil(t, m, reason)
		reasons[reason] = row{m[1], capitalized(m[2]), capitalized(m[3])}
		return true
	})
	return reasons
}

func capitalized(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
