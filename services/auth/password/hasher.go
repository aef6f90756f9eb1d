package password

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"

	"github.com/twofold-auth/twofold/services/internal/errs"
)

// ErrOverloaded says that the queue is full. It is RESOURCE_EXHAUSTED for the
// caller; nothing was decided about the password.
var ErrOverloaded = errs.New(codes.ResourceExhausted, errs.ReasonOverloaded,
	"Too many people are signing in at the moment. Please try again shortly.").WithRetryAfter(time.Second)

// ErrDamagedHash says that a stored hash cannot be read. There is then no
// answer about the password, neither yes nor no.
var ErrDamagedHash = errors.New("password: the stored hash is damaged")

// Config bounds what hashing may take.
type Config struct {
	// Concurrency is how many new hashes are worked on at once; imported ones
	// that need more memory count for several. Zero means one per processor.
	Concurrency int
	// Queue is how many may wait for their turn. Zero means 32 for each that is
	// worked on, which is about a second of work.
	Queue int
}

// Hasher hashes and checks passwords within its budget. It is safe for
// concurrent use.
type Hasher struct {
	budget   *semaphore.Weighted // of units
	units    int64
	inside   atomic.Int64 // those at work and those waiting
	capacity int64        // the most that may be inside
	computed atomic.Int64
	dummy    hash
}

// New returns a Hasher with its own budget. A process has one.
func New(cfg Config) *Hasher {
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = runtime.GOMAXPROCS(0)
	}
	if cfg.Queue <= 0 {
		cfg.Queue = 32 * cfg.Concurrency
	}
	units := int64(cfg.Concurrency)
	return &Hasher{
		budget:   semaphore.NewWeighted(units),
		units:    units,
		capacity: units + int64(cfg.Queue),
		// No password has this sum: it was drawn, not computed.
		dummy: argonHash{memoryKiB: memoryKiB, passes: passes, lanes: lanes, salt: random(saltSize), sum: random(sumSize)},
	}
}

// Hash returns a new hash. Errors are those of [Check], [ErrOverloaded] and the
// context's.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	normal, err := checked(password)
	if err != nil {
		return "", err
	}
	fresh := argonHash{memoryKiB: memoryKiB, passes: passes, lanes: lanes, salt: random(saltSize)}
	if err := h.enter(ctx, fresh); err != nil {
		return "", err
	}
	defer h.leave(fresh)
	h.computed.Add(1)
	return fresh.compute(normal, sumSize).String(), nil
}

// Verify reports whether stored is the hash of password, and if so whether the
// caller should store a new one. Errors are [ErrDamagedHash], [ErrOverloaded]
// and the context's; with an error there is no answer, and nobody is let in.
func (h *Hasher) Verify(ctx context.Context, stored, password string) (ok, needsUpgrade bool, err error) {
	parsed, err := parse(stored)
	if err != nil {
		return false, false, fmt.Errorf("%w: %w", ErrDamagedHash, err)
	}
	return h.verify(ctx, parsed, password)
}

// VerifyUnknown does for somebody who has no hash the work that Verify does for
// those who have one, so that the time tells nobody who exists. Hashes that
// were imported and not made anew yet still take their own time.
func (h *Hasher) VerifyUnknown(ctx context.Context, password string) error {
	_, _, err := h.verify(ctx, h.dummy, password)
	return err
}

func (h *Hasher) verify(ctx context.Context, stored hash, password string) (ok, needsUpgrade bool, err error) {
	normal, unusable := normalize(password)
	if unusable != nil {
		normal, password = "", "" // nobody's password; the same work all the same
	}
	if err := h.enter(ctx, stored); err != nil {
		return false, false, err
	}
	defer h.leave(stored)
	matches := func(typed string) bool {
		h.computed.Add(1)
		return stored.matches(typed)
	}
	ok = matches(normal)
	needsUpgrade = !stored.current()
	// Other systems hashed what was typed as it was typed.
	if normal != password && !ok {
		ok, needsUpgrade = matches(password), true
	}
	if !ok || unusable != nil {
		return false, false, nil
	}
	return true, needsUpgrade, nil
}

// Computed returns how many hashes were computed so far.
func (h *Hasher) Computed() int64 { return h.computed.Load() }

// enter waits for h's share of the budget. Each enter that succeeds is followed
// by a leave.
func (h *Hasher) enter(ctx context.Context, work hash) error {
	if h.inside.Add(1) > h.capacity {
		h.inside.Add(-1)
		return ErrOverloaded
	}
	if err := h.budget.Acquire(ctx, h.share(work)); err != nil {
		h.inside.Add(-1)
		return fmt.Errorf("password: waiting for a turn: %w", err)
	}
	return nil
}

func (h *Hasher) leave(work hash) {
	h.budget.Release(h.share(work))
	h.inside.Add(-1)
}

// share is how much of the budget work takes: one unit for each new hash's
// worth of memory, and never more than there is, or it would wait for ever.
func (h *Hasher) share(work hash) int64 {
	return min(h.units, max(1, (work.memory()+memoryKiB-1)/memoryKiB))
}

func random(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b) // never fails: it ends the program instead (its documentation)
	return b
}
