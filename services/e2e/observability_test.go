package e2e

import (
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/allinone"
	"github.com/twofold-auth/twofold/services/internal/app"
)

var (
	descriptor = regexp.MustCompile(`^Desc\{fqName: "(\w+)", help: ".*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	metricRow  = regexp.MustCompile("(?m)^\\| `(twofold_\\w+)` \\| (counter|gauge|histogram) \\|([^|\n]*)\\|([^|\n]+)\\|([^|\n]+)\\|$")
	labelName  = regexp.MustCompile("`(\\w+)`")
	constLabel = regexp.MustCompile(`(\w+)=`)
)

// docs/observability.md has every metric that the processes register, with its
// labels and its type, and no other.
func TestDocs_haveEveryMetric(t *testing.T) {
	t.Parallel()
	config, err := app.LoadConfig([]string{
		"TWOFOLD_HTTP_ADDR=127.0.0.1:0", "TWOFOLD_GRPC_ADDR=127.0.0.1:0", "TWOFOLD_NO_DEMO=1", "TWOFOLD_DATA_DIR=" + t.TempDir(),
	})
	require.NoError(t, err)
	registry := app.NewRegistry()
	suite, err := allinone.Open(t.Context(), &app.Process{
		Config: config, Log: slog.New(slog.DiscardHandler), Metrics: registry, Now: time.Now,
	})
	require.NoError(t, err)
	defer suite.Close()

	page, err := os.ReadFile("../../docs/observability.md")
	require.NoError(t, err)
	documented, types := map[string][]string{}, map[string]string{}
	for _, row := range metricRow.FindAllStringSubmatch(string(page), -1) {
		require.NotContains(t, documented, row[1], "twice")
		documented[row[1]], types[row[1]] = labelsIn(labelName, row[3]), row[2]
		require.NotEmpty(t, strings.TrimSpace(row[4]), "what %s means", row[1])
		require.NotEmpty(t, strings.TrimSpace(row[5]), "when to worry about %s", row[1])
	}
	require.Equal(t, registered(t, registry), documented)

	families, err := registry.Gather() // of those that have a value already
	require.NoError(t, err)
	for _, family := range families {
		if kind, ours := types[family.GetName()]; ours {
			require.Equal(t, strings.ToLower(family.GetType().String()), kind, family.GetName())
		}
	}
	for name, kind := range types {
		require.Equal(t, kind == "counter", strings.HasSuffix(name, "_total"), name)
	}
	// Alerts are about metrics that exist.
	for _, name := range regexp.MustCompile(`twofold_\w+`).FindAllString(string(page), -1) {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		require.True(t, documented[name] != nil || documented[base] != nil, name)
	}
}

// registered returns the labels of the suite's own metrics.
func registered(t *testing.T, registry *prometheus.Registry) map[string][]string {
	t.Helper()
	descs := make(chan *prometheus.Desc)
	go func() {
		registry.Describe(descs)
		close(descs)
	}()
	metrics := map[string][]string{}
	for desc := range descs {
		parts := descriptor.FindStringSubmatch(desc.String())
		require.NotNil(t, parts, desc.String())
		if !strings.HasPrefix(parts[1], "twofold_") {
			continue
		}
		labels := labelsIn(constLabel, parts[2])
		for label := range strings.SplitSeq(parts[3], ",") {
			if label != "" {
				labels = append(labels, label)
			}
		}
		slices.Sort(labels)
		metrics[parts[1]] = labels
	}
	return metrics
}

func labelsIn(pattern *regexp.Regexp, text string) []string {
	labels := []string{}
	for _, match := range pattern.FindAllStringSubmatch(text, -1) {
		labels = append(labels, match[1])
	}
	slices.Sort(labels)
	return labels
}
