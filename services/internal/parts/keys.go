package parts

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/twofold-auth/twofold/services/internal/app"
	"github.com/twofold-auth/twofold/services/internal/keyring"
)

// keysInterval is how often the keys file is read again. Operators wait for it at
// each step of a rotation, and a small file costs nothing to read.
const keysInterval = 10 * time.Second

// Keys loads the keys of a process, and returns the task that follows their file.
func Keys(p *app.Process) (*keyring.Keyring, app.Task, error) {
	keys, err := keyring.Load(p.Config.KeysFile)
	if err != nil {
		return nil, nil, err
	}
	task, err := FollowKeys(p, keys, p.Config.KeysFile)
	return keys, task, err
}

// FollowKeys returns the task that keeps keys as their file says: it reads the file
// every few seconds, and at once on SIGHUP. A file that cannot be used changes
// nothing, but is logged and counted.
func FollowKeys(p *app.Process, keys *keyring.Keyring, path string) (app.Task, error) {
	f := &keysFollower{
		keys: keys, log: p.Log,
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "twofold_keys_reload_failures_total", Help: "Looks at a keys file that could not be used: the keys stayed what they were.",
		}),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "twofold_keys_info", Help: "1 for each key that the process has, by its name and whether it makes new values.",
		}, []string{"key", "primary"}),
	}
	for _, c := range []prometheus.Collector{f.failures, f.info} {
		if err := p.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("parts: metrics of keys: %w", err)
		}
	}
	f.show()
	f.log.Info("Keys loaded", slog.String("primary", keys.Primary()), slog.Int("keys", len(keys.Names())))
	// From now on, so that no signal ends a process that is still starting.
	hangups, stop := app.Hangups()
	return func(ctx context.Context) error {
		defer stop()
		return keys.Follow(ctx, keyring.Watch{
			Path: path, Every: keysInterval, Now: hangups, Changed: f.changed, Failed: f.failed,
		})
	}, nil
}

type keysFollower struct {
	keys     *keyring.Keyring
	log      *slog.Logger
	failures prometheus.Counter
	info     *prometheus.GaugeVec
	// failure is what was logged last: a file that stays broken is logged once and
	// counted at each look, so that an alert lasts as long as the mistake.
	failure string
}

func (f *keysFollower) changed(c keyring.Change) {
	f.failure = ""
	f.show()
	f.log.Info("Keys reloaded", slog.String("primary", f.keys.Primary()), slog.Int("keys", len(f.keys.Names())),
		slog.Any("added", c.Added), slog.Any("removed", c.Removed))
}

func (f *keysFollower) failed(err error) {
	f.failures.Inc()
	if err.Error() == f.failure {
		return
	}
	f.failure = err.Error()
	f.log.Error("Keys file not usable, the keys stay what they were",
		slog.String("primary", f.keys.Primary()), slog.Int("keys", len(f.keys.Names())), slog.Any("error", err))
}

func (f *keysFollower) show() {
	f.info.Reset()
	for i, name := range f.keys.Names() {
		f.info.WithLabelValues(name, fmt.Sprint(i == 0)).Set(1)
	}
}
