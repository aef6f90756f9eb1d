package session

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// meta says how far a bucket has come: that everything up to a position of the
// event stream is in it. It is lost with the bucket, and rolled back with it.
type meta struct {
	// epoch is when the stream was created, in microseconds; positions count
	// within it.
	epoch    int64
	position uint64
	// born is when the bucket was found empty. No session from before may pass: what
	// revoked it is gone.
	born time.Time
	// repaired is when the bucket was last found older than it had been; zero for
	// never. Sessions from before that are missing were lost.
	repaired time.Time
	// generation is another one after each of these.
	generation string
}

var errMeta = errors.New("session: the meta of a bucket cannot be read")

// encode begins with epoch and position, which the advance script reads.
func (m meta) encode() string {
	return strings.Join([]string{
		strconv.FormatInt(m.epoch, 10), strconv.FormatUint(m.position, 10),
		strconv.FormatInt(m.born.UnixMilli(), 10), strconv.FormatInt(m.repaired.UnixMilli(), 10), m.generation,
	}, ";")
}

func decodeMeta(value string) (meta, error) {
	var (
		m                            meta
		born, repaired               int64
		errs                         [4]error
		epoch, rest, _               = strings.Cut(value, ";")
		position, rest2, _           = strings.Cut(rest, ";")
		bornText, rest3, _           = strings.Cut(rest2, ";")
		repairedText, generation, ok = strings.Cut(rest3, ";")
	)
	m.epoch, errs[0] = strconv.ParseInt(epoch, 10, 64)
	m.position, errs[1] = strconv.ParseUint(position, 10, 64)
	born, errs[2] = strconv.ParseInt(bornText, 10, 64)
	repaired, errs[3] = strconv.ParseInt(repairedText, 10, 64)
	m.born, m.repaired, m.generation = time.UnixMilli(born), time.UnixMilli(repaired), generation
	if !ok || errors.Join(errs[:]...) != nil {
		return meta{}, errMeta
	}
	return m, nil
}

// mark is a position of the event stream that is known outside of the store to
// have been reached.
type mark struct {
	epoch    int64
	position uint64
}

// current reports whether a bucket holds everything up to the mark. A later epoch
// is current: another copy learned before this one that the stream was replaced.
func (m meta) current(floor mark) bool {
	return m.epoch > floor.epoch || m.epoch == floor.epoch && m.position >= floor.position
}

// floor is the mark that every bucket must have reached. It only rises. Until it
// is known there is no verdict.
type floor struct {
	at atomic.Pointer[mark]
}

func (f *floor) get() (mark, bool) {
	if m := f.at.Load(); m != nil {
		return *m, true
	}
	return mark{}, false
}

// await returns once the floor is known, or has not become known for a while.
func (f *floor) await(ctx context.Context, atMost time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	ticker := time.NewTicker(startEvery)
	defer ticker.Stop()
	for _, known := f.get(); !known; _, known = f.get() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (f *floor) raise(to mark) {
	for {
		old := f.at.Load()
		if old != nil && (to.epoch < old.epoch || to.epoch == old.epoch && to.position <= old.position) {
			return
		}
		if f.at.CompareAndSwap(old, &to) {
			return
		}
	}
}
