package story

import (
	"fmt"
	"sync"
	"time"
)

// grace reads the grace period of a policy.
func (got Policy) grace(p *play) time.Duration {
	d, err := time.ParseDuration(got.GracePeriod)
	p.must("reading the grace period "+got.GracePeriod, err)
	return d
}

// clock shows a time of today.
func clock(t time.Time) string { return t.UTC().Format("15:04:05.000 MST") }

// tellThoseWithout is the mails of the enforcement.
func (p *play) tellThoseWithout() {
	p.step("Everybody without a second factor is told by mail, and nobody else.")
	for _, who := range p.without() {
		p.arrives(who, mailEnabled, p.olivia.displayName, p.policy.SessionRevokeTime.UTC().Format("2006"))
	}
	var rollout Rollout
	p.eventually("all notices sent", func() (bool, string) {
		var err error
		rollout, err = p.client.getRollout(p.ctx, p.olivia.devices[0].token, p.account)
		p.must("reading the rollout", err)
		n := present(p, "the rollout's notices", rollout.Notices)
		return n.Complete && n.Sent == int64(p.notSetUpThen), fmt.Sprintf("%+v", *n)
	})
	equal(p, "notices", int64(p.notSetUpThen), rollout.Notices.Total)
	for _, who := range p.everybody() {
		if who.app != nil {
			p.exactly(who, who.mails, p.mailsOf(who))
		}
	}
	p.saw("%s and %s, who have set up, got none", p.olivia.displayName, p.emil.displayName)
}

// setUpAtSignIn is what somebody without a factor meets from now on.
func (p *play) setUpAtSignIn() {
	p.step("%s signs in from the mobile app, and is led to set up: no session before that.", p.ann.displayName)
	p.saw("mobile says: %s", p.led(p.ann, mobile, true).Prompt.Message)
	for _, d := range p.ann.devices {
		p.works(d)
	}
	p.saw("the sessions there were go on")

	p.step("She signs in on the web and sets it up.")
	p.setsUpAtSignIn(p.ann, web, true)
	p.arrives(p.ann, mailAdded)

	p.step("Whoever has set up just signs in.")
	p.signsInWithCode(p.emil, web)
	p.saw("%s signs in with a code", p.emil.displayName)
}

// seeWhoIsMissing is the admin's view.
func (p *play) seeWhoIsMissing() {
	olivia := p.olivia.devices[0]
	p.step("%s sees how far it has come.", p.olivia.displayName)
	rollout, err := p.client.getRollout(p.ctx, olivia.token, p.account)
	p.must("reading the rollout", err)
	missing := p.without()
	equal(p, "the rollout: agents", int64(len(p.everybody())), rollout.AgentsTotal)
	equal(p, "the rollout: agents with a second factor", int64(len(p.everybody())-len(missing)), rollout.AgentsEnrolled)
	equal(p, "the rollout: sessions that will end", int64(len(p.devicesAt(aal1))), rollout.SessionsEnding)
	equal(p, "the rollout: when", p.policy.SessionRevokeTime.UnixMicro(), present(p, "the rollout's date", rollout.SessionRevokeTime).UnixMicro())
	p.saw("%d of %d agents have set up; %d sessions end at %s",
		rollout.AgentsEnrolled, rollout.AgentsTotal, rollout.SessionsEnding, clock(*rollout.SessionRevokeTime))

	p.step("She sees who is missing: a warning in the list, and the words in the detail.")
	list, err := p.client.listAgents(p.ctx, olivia.token, p.account, "mfaState=NOT_SET_UP")
	p.must("listing those without", err)
	var want, got []string
	for _, who := range missing {
		want = append(want, who.name)
	}
	for _, agent := range list.Agents {
		got = append(got, agent.Name)
		equal(p, "the words for "+agent.Email, "Two-Factor Authentication not setup", agent.MfaStatusMessage)
	}
	same(p, "agents without a second factor", want, got)
	equal(p, "how many", len(want), list.TotalSize)
	for _, agent := range list.Agents {
		_, _ = fmt.Fprintf(p.Out, "     ⚠ %s: %s\n", agent.DisplayName, agent.MfaStatusMessage)
	}
	everybody, err := p.client.listAgents(p.ctx, olivia.token, p.account, "")
	p.must("listing all", err)
	equal(p, "agents in the whole list", len(p.everybody()), everybody.TotalSize)
	ann, err := p.client.getAgent(p.ctx, olivia.token, p.ann.name)
	p.must("reading an agent", err)
	equal(p, "the state of "+p.ann.email, "SET_UP", ann.MfaState)
	equal(p, "the words for "+p.ann.email, "", ann.MfaStatusMessage)
	present(p, "the last sign-in of "+p.ann.email, ann.LastSignInTime)
	_, err = p.client.listAgents(p.ctx, p.ann.devices[0].token, p.account, "")
	p.refused("looking as an agent", err, "PERMISSION_DENIED", "CALLER_NOT_PERMITTED")
	_, err = p.client.getAgent(p.ctx, p.rival.devices[0].token, p.ann.name)
	p.refused("looking as another account's owner", err, "NOT_FOUND", "RESOURCE_NOT_FOUND")
}

// late is how long after the deadline a session may still answer: what a call
// takes on a busy machine. Before it none may end.
const late = time.Second

// endSessions waits for the deadline with everybody who is still signed in
// without a second factor.
func (p *play) endSessions() {
	devices := p.devicesAt(aal1)
	deadline := *p.policy.SessionRevokeTime
	if !p.Now().Before(deadline) {
		p.fail("the grace period of %s was over before the story got here: choose a longer one", p.Grace)
	}
	p.step("At %s the %d sessions without a second factor end: web, mobile, desktop, kept for 30 days or not.", clock(deadline), len(devices))
	ends := make([]time.Duration, len(devices))
	problems := make([]error, len(devices))
	var watches sync.WaitGroup
	for i, d := range devices {
		watches.Go(func() { ends[i], problems[i] = p.watch(d, deadline) })
	}
	watches.Wait()
	for i, d := range devices {
		p.must(d.owner.email+" on "+d.kind, problems[i])
		p.saw("%s on %s: %s after it", d.owner.displayName, d.kind, ends[i].Round(time.Millisecond))
		d.owner.devices = nil
	}
	for _, d := range p.devicesAt(aal2) {
		p.works(d)
	}
	p.saw("the %d sessions with a second factor go on", len(p.devicesAt(aal2)))
	p.eventually("no session left to end", func() (bool, string) {
		rollout, err := p.client.getRollout(p.ctx, p.olivia.devices[0].token, p.account)
		p.must("reading the rollout", err)
		return rollout.SessionsEnding == 0, fmt.Sprintf("%d left", rollout.SessionsEnding)
	})
}

// watch asks a session again and again until it is over, and says how long after
// the deadline that was.
func (p *play) watch(d *device, deadline time.Time) (time.Duration, error) {
	for {
		asked := p.Now()
		_, err := p.client.getMe(p.ctx, d.token)
		answered := p.Now()
		switch refusal := refusedAs(err); {
		case err == nil && asked.After(deadline.Add(late)):
			return 0, fmt.Errorf("expected to be signed out at %s, still signed in at %s", clock(deadline), clock(asked))
		case err == nil:
		case refusal == nil || refusal.Reason != "SESSION_ENDED_BY_MFA_POLICY":
			return 0, fmt.Errorf("expected SESSION_ENDED_BY_MFA_POLICY at the deadline, got %w", err)
		case answered.Before(deadline):
			return 0, fmt.Errorf("expected to be signed in until %s, signed out at %s", clock(deadline), clock(answered))
		default:
			return answered.Sub(deadline), nil
		}
		if err := pause(p.ctx, glance); err != nil {
			return 0, err
		}
	}
}

// setUpAfterTheDeadline is what those find who did nothing until then.
func (p *play) setUpAfterTheDeadline() {
	p.step("Signing in again leads them to set up, admins and agents alike.")
	for _, who := range []*person{p.ben, p.cleo, p.adam} {
		p.setsUpAtSignIn(who, web, false)
		p.arrives(who, mailAdded)
	}
	list, err := p.client.listAgents(p.ctx, p.olivia.devices[0].token, p.account, "mfaState=NOT_SET_UP")
	p.must("listing those without", err)
	equal(p, "agents without a second factor", 0, list.TotalSize)
	p.saw("nobody is missing any more")
}

// keepTheLastFactor is what enforcement forbids and what it allows.
func (p *play) keepTheLastFactor() {
	ben := p.ben.devices[0]
	p.step("%s can not remove the second factor while it is enforced.", p.ben.displayName)
	p.refused("removing it", p.client.deleteFactor(p.ctx, ben.token, p.factorOf(ben)), "FAILED_PRECONDITION", "LAST_FACTOR_PROTECTED")

	p.step("He can move it to a new phone.")
	old := p.ben.app
	p.setsUpFromProfile(p.ben, ben)
	p.arrives(p.ben, mailAdded)
	challenge := p.asked(p.ben, web)
	code, err := old.code(p.ctx, p.Now)
	p.must("reading the old phone", err)
	_, err = p.client.verifyTOTP(p.ctx, challenge.SignInToken, code)
	p.refused("a code of the old phone", err, "UNAUTHENTICATED", "CODE_INCORRECT")
	answer, err := p.client.verifyTOTP(p.ctx, challenge.SignInToken, p.code(p.ben))
	p.must("a code of the new phone", err)
	p.on(p.ben, web, false, aal2, present(p, "the session", answer.Session))
	p.saw("the new phone's codes work, the old one's do not")
}
