package keyring

import (
	"context"
	"os"
	"time"
)

// Watch is how a keys file is followed.
type Watch struct {
	Path string
	// Every is how often the file is read. It is read and not watched: Kubernetes
	// swaps symbolic links above a file, and not all file systems tell of changes.
	Every time.Duration
	// Now asks for a look at once: SIGHUP, say. Nil never does.
	Now <-chan os.Signal
	// Changed is told of new keys, once they are in place.
	Changed func(Change)
	// Failed is told why the file cannot be used, at each look; the keys then stay
	// what they were.
	Failed func(error)
}

// Follow reads the keys file again and again, and swaps the keys when they have
// changed, until ctx ends; it returns nil then.
func (k *Keyring) Follow(ctx context.Context, w Watch) error {
	ticker := time.NewTicker(w.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-w.Now:
		}
		switch change, err := k.Reload(w.Path); {
		case err != nil:
			w.Failed(err)
		case !change.None():
			w.Changed(change)
		}
	}
}
