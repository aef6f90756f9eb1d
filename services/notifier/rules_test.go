package notifier

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/twofold-auth/twofold/services/notifier/mail"
	"github.com/twofold-auth/twofold/services/notifier/smtppool"
)

func TestDecide(t *testing.T) {
	at := time.Date(2026, time.November, 23, 14, 5, 0, 0, time.UTC)
	week := at.Add(168 * time.Hour)
	on := terms{revision: 3, enforced: true, enforceTime: at, revokeTime: week}
	off := terms{revision: 4}
	person := recipient{active: true, notSetUp: true}
	enabled := notice{id: "n", kind: mail.KindEnforcementEnabled, policyRevision: 3, enforceTime: at, revokeTime: week}
	lifted := notice{id: "n", kind: mail.KindEnforcementLifted, policyRevision: 4}
	known := func(revision int64, revoke time.Time) told {
		return told{id: "other", kind: mail.KindEnforcementEnabled, policyRevision: revision, enforceTime: at, revokeTime: revoke}
	}
	sending, wasLifted, own := known(2, week), told{id: "l", kind: mail.KindEnforcementLifted, policyRevision: 3}, known(3, week)
	sending.sending, own.id = true, "n"
	resent := enabled
	resent.resent = true
	for name, tc := range map[string]struct {
		n        notice
		t        terms
		to       recipient
		history  []told
		want     verdict
		previous time.Time
	}{
		"first":                      {enabled, on, person, nil, send, time.Time{}},
		"has a factor":               {enabled, on, recipient{active: true}, nil, suppress, time.Time{}},
		"deactivated":                {enabled, on, recipient{notSetUp: true}, nil, suppress, time.Time{}},
		"newer revision":             {enabled, terms{revision: 4, enforced: true, enforceTime: at}, person, nil, suppress, time.Time{}},
		"knows the date":             {enabled, on, person, []told{known(2, week)}, suppress, time.Time{}},
		"knows an earlier date":      {enabled, on, person, []told{known(2, week.Add(-time.Hour))}, suppress, time.Time{}},
		"knows a later date":         {enabled, on, person, []told{known(2, week.Add(time.Hour))}, send, week.Add(time.Hour)},
		"is being told":              {enabled, on, person, []told{sending}, wait, time.Time{}},
		"itself":                     {enabled, on, person, []told{own}, send, time.Time{}},
		"asked for":                  {resent, on, person, []told{known(2, week)}, send, time.Time{}},
		"lifted":                     {lifted, off, recipient{active: true}, []told{known(3, week)}, send, time.Time{}},
		"lifted, never told":         {lifted, off, person, nil, suppress, time.Time{}},
		"lifted, told so":            {lifted, off, person, []told{known(2, week), wasLifted}, suppress, time.Time{}},
		"lifted, being told":         {lifted, off, person, []told{sending}, wait, time.Time{}},
		"lifted, on again":           {lifted, terms{revision: 5, enforced: true}, person, []told{known(3, week)}, suppress, time.Time{}},
		"about oneself":              {notice{kind: mail.KindMFAReset}, off, recipient{active: true}, nil, send, time.Time{}},
		"about oneself, deactivated": {notice{kind: mail.KindMFAReset}, off, recipient{}, nil, suppress, time.Time{}},
	} {
		got, previous := decide(tc.n, tc.t, tc.to, tc.history)
		require.Equal(t, tc.want, got, name)
		require.Equal(t, tc.previous, previous, name)
	}
}

func TestPatience_pausesGrowAndDiffer(t *testing.T) {
	p := patience{min: 10 * time.Second, max: 30 * time.Minute}
	seen := map[time.Duration]bool{}
	for failures := range 100 {
		full := min(10*time.Second<<min(failures, 20), 30*time.Minute)
		got := p.pause(failures)
		require.GreaterOrEqual(t, got, full/2)
		require.LessOrEqual(t, got, full)
		seen[got] = true
	}
	require.Greater(t, len(seen), 50)
}

func TestPatience_givesUpOnlyAfterItsTime(t *testing.T) {
	p := patience{min: time.Second, max: time.Second, giveUpAfter: time.Hour}
	at := time.Date(2026, time.November, 23, 14, 5, 0, 0, time.UTC)
	off := smtppool.Outcome{Result: smtppool.Retryable, Stage: smtppool.StageRecipient, Code: 451, Reply: "later"}
	require.Equal(t, stateRetrying, p.after(notice{}, off, at).state)
	require.Equal(t, stateRetrying, p.after(notice{firstFailureTime: at.Add(time.Second - time.Hour)}, off, at).state)
	require.Equal(t, stateFailed, p.after(notice{firstFailureTime: at.Add(-time.Hour)}, off, at).state)
	require.Equal(t, stateUnknown, p.after(notice{firstFailureTime: at.Add(-time.Hour), ambiguousAttempts: 1}, off, at).state)
}

// One knocks, and the others wait; a failure of many at once is one failure.
func TestGate(t *testing.T) {
	now := time.Date(2026, time.November, 23, 14, 5, 0, 0, time.UTC)
	g := newGate(func() time.Time { return now }, time.Second, time.Minute)
	require.NoError(t, g.enter(t.Context()))
	for range 8 {
		require.LessOrEqual(t, g.failed(), time.Second)
	}
	require.False(t, g.isOpen())
	pause, _ := g.turn()
	require.Positive(t, pause)
	now = now.Add(pause)
	pause, _ = g.turn()
	require.Zero(t, pause, "the first one knocks")
	pause, opened := g.turn()
	require.Positive(t, pause, "the next one waits")
	require.Greater(t, g.failed(), 900*time.Millisecond, "pauses grow")
	g.worked()
	require.True(t, g.isOpen())
	<-opened
	require.NoError(t, g.enter(t.Context()))
}

func TestExplain_hasNoSecretsAndOneLine(t *testing.T) {
	for _, out := range []smtppool.Outcome{
		{Result: smtppool.Rejected, Stage: smtppool.StageRecipient, Code: 550, Reply: "5.1.1 no\nsuch  user"},
		{Result: smtppool.Ambiguous}, {Result: smtppool.Retryable}, {Result: smtppool.Retryable, Code: 451},
	} {
		require.NotContains(t, explain(out), "\n")
		require.NotEmpty(t, explain(out))
	}
	require.Equal(t, "The mail server refused our sign-in (535).",
		explainConnect(&smtppool.ConnectError{Stage: smtppool.StageSignIn, Code: 535}))
}
