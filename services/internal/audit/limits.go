package audit

import (
	"sync"
	"time"

	"github.com/twofold-auth/twofold/services/internal/authz"
)

// Limits on recording refusals, in each copy of a service. Anybody with a session
// can be refused as often as they like, and an event stays for ever.
const (
	// callerBurst refusals of one caller are recorded at once, and then one every
	// callerEvery.
	callerBurst = 60
	callerEvery = 10 * time.Second
	// accountBurst and accountEvery are for all callers of an account together.
	accountBurst = 600
	accountEvery = time.Second
	// maxBuckets is how many callers and accounts are remembered.
	maxBuckets = 10_000
)

// limits are token buckets of callers and accounts.
type limits struct {
	now func() time.Time

	mu      sync.Mutex
	buckets map[string]*bucket
}

// bucket says how many more are recorded. Time fills it up again.
type bucket struct {
	burst   int
	every   time.Duration
	left    int
	at      time.Time // when left was right
	omitted int       // since something was recorded last
}

func newLimits(now func() time.Time) *limits { return &limits{now: now, buckets: map[string]*bucket{}} }

// allow says whether a refusal is recorded; and if so, how many of the caller's
// were not since the last that was.
func (l *limits) allow(account string, caller *authz.Caller) (omitted int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	who := "operator"
	switch {
	case caller.Person != nil:
		who = "agent/" + caller.Person.Agent
	case caller.Kind == authz.KindService:
		who = "service/" + caller.Via
	}
	ofCaller := l.bucket(account+"/"+who, callerBurst, callerEvery, now)
	ofAccount := l.bucket(account, accountBurst, accountEvery, now)
	if ofCaller.left == 0 || ofAccount.left == 0 {
		ofCaller.omitted++
		return 0, false
	}
	ofCaller.left--
	ofAccount.left--
	omitted, ofCaller.omitted = ofCaller.omitted, 0
	return omitted, true
}

func (l *limits) bucket(key string, burst int, every time.Duration, now time.Time) *bucket {
	b := l.buckets[key]
	if b == nil {
		if len(l.buckets) >= maxBuckets {
			l.forget(now)
		}
		b = &bucket{burst: burst, every: every, left: burst, at: now}
		l.buckets[key] = b
	}
	b.fill(now)
	return b
}

// fill adds what time brought.
func (b *bucket) fill(now time.Time) {
	gained := int(now.Sub(b.at) / b.every)
	if gained <= 0 {
		return
	}
	b.at = b.at.Add(time.Duration(gained) * b.every)
	b.left = min(b.burst, b.left+gained)
}

// forget removes the buckets that are full, which a new one would be too, and all
// of them should none be: then limits are not what keeps the service alive.
func (l *limits) forget(now time.Time) {
	for key, b := range l.buckets {
		if b.fill(now); b.left == b.burst && b.omitted == 0 {
			delete(l.buckets, key)
		}
	}
	if len(l.buckets) >= maxBuckets {
		clear(l.buckets)
	}
}
