package events_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	messageBlock = regexp.MustCompile(`(?ms)^message (\w+) \{\n(.*?)^\}`)
	messageField = regexp.MustCompile(`(?m)^  (?:repeated )?[\w.]+ (\w+) = \d+;`)
	eventRow     = regexp.MustCompile("(?m)^\\| `(\\w+)` \\|([^|\n]+)\\|([^|\n]+)\\|([^|\n]+)\\|$")
	quotedWord   = regexp.MustCompile("`(\\w+)`")
)

// docs/events.md has every event of the protos with every field, under its service,
// and no other.
func TestDocs_haveEveryEvent(t *testing.T) {
	page, err := os.ReadFile("../../../docs/events.md")
	require.NoError(t, err)
	files, err := filepath.Glob("../../../proto/twofold/*/v1/events.proto")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 3)

	promised := map[string][]string{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		service := filepath.Base(filepath.Dir(filepath.Dir(file)))
		for _, message := range messageBlock.FindAllStringSubmatch(string(source), -1) {
			fields := []string{}
			for _, field := range messageField.FindAllStringSubmatch(message[2], -1) {
				fields = append(fields, field[1])
			}
			require.NotEmpty(t, fields, message[1])
			promised[service+" "+message[1]] = fields
		}
	}
	require.GreaterOrEqual(t, len(promised), 15)

	documented := map[string][]string{}
	sections := strings.Split(string(page), "\n## ")
	for _, section := range sections[1:] {
		service, rest, _ := strings.Cut(section, "\n")
		for _, row := range eventRow.FindAllStringSubmatch(rest, -1) {
			fields := []string{}
			for _, field := range quotedWord.FindAllStringSubmatch(row[3], -1) {
				fields = append(fields, field[1])
			}
			require.NotEmpty(t, strings.TrimSpace(row[2]), "when %s happens", row[1])
			require.NotEmpty(t, strings.TrimSpace(row[4]), "who consumes %s", row[1])
			documented[service+" "+row[1]] = fields
		}
	}
	require.Equal(t, promised, documented)
}
