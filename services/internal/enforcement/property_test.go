package enforcement_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/twofold-auth/twofold/services/internal/enforcement"
)

// No session is revoked early and none is valid late, no agent is let in, told or
// shown wrongly, whatever happens in an account and in whatever order.
func TestRule_agreesWithTheOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{oracle: &oracle{}}
		for range rapid.IntRange(1, 3).Draw(t, "people") {
			w.hire(t)
		}
		t.Repeat(map[string]func(*rapid.T){
			"":               w.check,
			"enable":         w.enable,
			"disable":        w.disable,
			"changeGrace":    w.changeGrace,
			"toggleSSO":      w.toggleSSO,
			"saveAgain":      w.saveAgain,
			"letTimePass":    w.letTimePass,
			"goToTheEdge":    w.goToTheEdge,
			"hire":           w.hire,
			"deactivate":     w.deactivate,
			"signIn":         w.signIn,
			"slipIn":         w.slipIn,
			"enrollUnasked":  w.enrollUnasked,
			"removeTheirOwn": w.removeTheirOwn,
			"reset":          w.reset,
		})
	})
}

// world runs the rule and the oracle side by side. Of the rule's side it keeps
// only the policy, as a service would; the facts are made from the oracle's.
type world struct {
	*oracle
	policy enforcement.Policy
}

func (w *world) save(t *rapid.T, desired save) {
	before, wasOn := w.policy, w.settings().enforced
	altered := w.alterations()
	desired.at = w.now
	w.saves = append(w.saves, desired)

	var transition enforcement.Transition
	w.policy, transition = w.policy.Change(enforcement.Settings{
		Enforced:    desired.enforced,
		GracePeriod: time.Duration(desired.grace),
		ApplyToSSO:  desired.sso,
	}, w.now.time())

	want := enforcement.Updated
	switch {
	case w.alterations() == altered:
		want = enforcement.Unchanged
		require.Equal(t, before, w.policy)
	case !wasOn && desired.enforced:
		want = enforcement.Enabled
	case wasOn && !desired.enforced:
		want = enforcement.Disabled
	}
	require.Equal(t, want, transition)
}

func (w *world) enable(t *rapid.T) {
	desired := w.settings()
	desired.enforced = true
	desired.grace = drawTicks(t, 8, "grace")
	w.save(t, desired)
}

func (w *world) disable(t *rapid.T) {
	desired := w.settings()
	desired.enforced = false
	w.save(t, desired)
}

func (w *world) changeGrace(t *rapid.T) {
	desired := w.settings()
	desired.grace = drawTicks(t, 8, "grace")
	w.save(t, desired)
}

func (w *world) toggleSSO(t *rapid.T) {
	desired := w.settings()
	desired.sso = !desired.sso
	w.save(t, desired)
}

func (w *world) saveAgain(t *rapid.T) {
	w.save(t, w.settings())
}

func (w *world) letTimePass(t *rapid.T) {
	w.now += 1 + drawTicks(t, 3, "ticks")
}

// goToTheEdge lets time pass until just before, on or just after the deadline,
// where mistakes live.
func (w *world) goToTheEdge(t *rapid.T) {
	since, on := w.onSince()
	edge := since + w.settings().grace + drawTicks(t, 2, "offset") - 1
	if !on || edge < w.now {
		t.Skip("no edge ahead")
	}
	w.now = edge
}

func (w *world) hire(t *rapid.T) {
	w.people = append(w.people, &person{
		role: rapid.SampledFrom([]enforcement.Role{
			enforcement.RoleAgent, enforcement.RoleAdmin, enforcement.RoleOwner,
		}).Draw(t, "role"),
		password: rapid.Bool().Draw(t, "password"),
		sso:      rapid.Bool().Draw(t, "sso"),
		joined:   w.now,
	})
}

func (w *world) deactivate(t *rapid.T) {
	p := w.somebody(t)
	p.gone = true
	w.endLogins(p)
}

// signIn brings somebody as far as they get: with a right second factor if they
// have one, and sometimes giving up where they are led to set one up.
func (w *world) signIn(t *rapid.T) {
	p := w.somebody(t)
	first := drawWayIn(t, p)
	switch w.policy.NextStep(p.facts(), first) {
	case enforcement.StepSession:
		w.logIn(p, first, false)
	case enforcement.StepChallenge:
		w.logIn(p, first, true)
	case enforcement.StepEnroll:
		if rapid.Bool().Draw(t, "givesUp") {
			return
		}
		p.factor = true
		w.endLogins(p)
		w.logIn(p, first, true)
	}
}

// slipIn makes a session that nobody decided on, as if a race had got past every
// fence. The rule alone must hold then.
func (w *world) slipIn(t *rapid.T) {
	p := w.somebody(t)
	w.logIn(p, drawWayIn(t, p), false)
}

// enrollUnasked sets up a factor from the profile: the session in use is issued
// again with it, all others of that person end.
func (w *world) enrollUnasked(t *rapid.T) {
	if len(w.logins) == 0 {
		t.Skip("nobody is signed in")
	}
	current := rapid.SampledFrom(w.logins).Draw(t, "current")
	current.who.factor = true
	w.endLogins(current.who)
	w.logins = append(w.logins, &login{
		who: current.who, viaSSO: current.viaSSO, secondFactor: true, born: w.now,
	})
}

func (w *world) removeTheirOwn(t *rapid.T) {
	p := w.somebody(t)
	if !w.policy.MayRemoveLastFactor(p.facts()) {
		t.Skip("the policy keeps it")
	}
	p.factor = false
}

func (w *world) reset(t *rapid.T) {
	p := w.somebody(t)
	p.factor = false
	w.endLogins(p)
}

// check compares all that can be asked of the rule at this moment.
func (w *world) check(t *rapid.T) {
	w.checkPolicy(t)
	for _, l := range w.logins {
		w.checkLogin(t, l)
	}
	for _, p := range w.people {
		facts := p.facts()
		covered := w.settings().enforced && w.asksSomehow(p)
		require.Equal(t, covered, w.policy.Covers(facts))
		require.Equal(t, w.state(p), w.policy.MFAState(facts))
		require.Equal(t, w.mailed(p), w.policy.Notifies(facts))
		require.Equal(t, !covered, w.policy.MayRemoveLastFactor(facts))
		require.Equal(t, w.step(p, false), w.policy.NextStep(facts, enforcement.Password))
		require.Equal(t, w.step(p, true), w.policy.NextStep(facts, enforcement.SSO))
	}
}

func (w *world) checkPolicy(t *rapid.T) {
	require.Equal(t, w.alterations(), w.policy.Revision)
	since, on := w.onSince()
	require.Equal(t, on, w.policy.Enforced)
	if !on {
		require.Zero(t, w.policy.EnforceTime)
		require.Zero(t, w.policy.SessionRevokeTime())
		return
	}
	require.Equal(t, since.time(), w.policy.EnforceTime)
	require.Equal(t, (since + w.settings().grace).time(), w.policy.SessionRevokeTime())
}

// checkLogin asks for the verdict now, in times to come, and around the very
// instant of the session's end.
func (w *world) checkLogin(t *rapid.T, l *login) {
	end, ends := w.end(l)
	for _, at := range []tick{w.now, w.now + 1, end - 1, end, end + 1, w.now + 1000} {
		if at < w.now {
			continue
		}
		want := enforcement.Verdict{Alive: !ends || at < end}
		if want.Alive && ends {
			want.RevokeTime = end.time()
		}
		require.Equal(t, want, w.policy.Judge(l.facts(), at.time()),
			"session of tick %d at tick %d, ends (%t) at %d", l.born, at, ends, end)
	}
}

func (w *world) logIn(p *person, first enforcement.FirstFactor, secondFactor bool) {
	w.logins = append(w.logins, &login{
		who: p, viaSSO: first == enforcement.SSO, secondFactor: secondFactor, born: w.now,
	})
}

// somebody draws a person who has not been deactivated.
func (w *world) somebody(t *rapid.T) *person {
	var active []*person
	for _, p := range w.people {
		if !p.gone {
			active = append(active, p)
		}
	}
	if len(active) == 0 {
		t.Skip("everybody is gone")
	}
	return rapid.SampledFrom(active).Draw(t, "who")
}

func (p *person) facts() enforcement.Agent {
	return enforcement.Agent{
		Role:        p.role,
		Active:      !p.gone,
		HasPassword: p.password,
		HasSSO:      p.sso,
		HasFactor:   p.factor,
		CreateTime:  p.joined.time(),
	}
}

func (l *login) facts() enforcement.Session {
	first, level := enforcement.Password, enforcement.AAL1
	if l.viaSSO {
		first = enforcement.SSO
	}
	if l.secondFactor {
		level = enforcement.AAL2
	}
	return enforcement.Session{
		Exempt:         l.who.facts().ExemptVia(first),
		AssuranceLevel: level,
		CreateTime:     l.born.time(),
	}
}

func drawWayIn(t *rapid.T, p *person) enforcement.FirstFactor {
	var ways []enforcement.FirstFactor
	if p.password {
		ways = append(ways, enforcement.Password)
	}
	if p.sso {
		ways = append(ways, enforcement.SSO)
	}
	if len(ways) == 0 {
		t.Skip("invited, and cannot sign in yet")
	}
	return rapid.SampledFrom(ways).Draw(t, "first")
}

func drawTicks(t *rapid.T, most int64, label string) tick {
	return tick(rapid.Int64Range(0, most).Draw(t, label))
}

// Saving twice is saving once, and every alteration has a revision of its own:
// what request retries and fencing by revision rest on.
func TestChange_isIdempotentAndMonotone(t *testing.T) {
	settings := rapid.Custom(func(t *rapid.T) enforcement.Settings {
		return enforcement.Settings{
			Enforced:    rapid.Bool().Draw(t, "enforced"),
			GracePeriod: time.Duration(rapid.Int64Range(0, 3).Draw(t, "days")) * 24 * time.Hour,
			ApplyToSSO:  rapid.Bool().Draw(t, "sso"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		policy := enforcement.Policy{}
		now := monday
		for _, desired := range rapid.SliceOf(settings).Draw(t, "saves") {
			altered := desired != policy.Settings
			before := policy.Revision
			policy, _ = policy.Change(desired, now)
			require.Equal(t, desired, policy.Settings)
			if altered {
				require.Equal(t, before+1, policy.Revision)
			} else {
				require.Equal(t, before, policy.Revision)
			}

			now = now.Add(time.Hour)
			again, transition := policy.Change(desired, now)
			require.Equal(t, enforcement.Unchanged, transition)
			require.Equal(t, policy, again)
		}
	})
}
