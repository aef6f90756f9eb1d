package story

import "strings"

// The codes of what a screen tells people; apps translate by them.
const (
	promptSetUp       = "MFA_SETUP_REQUIRED"
	promptSetUpMobile = "MFA_SETUP_REQUIRED_MOBILE"
	promptComplete    = "MFA_SETUP_COMPLETE"
)

// The kinds of mail in the story, as the Twofold-Notice header says them.
const (
	mailEnabled  = "ENFORCEMENT_ENABLED"
	mailLifted   = "ENFORCEMENT_LIFTED"
	mailReset    = "MFA_RESET"
	mailAdded    = "FACTOR_ADDED"
	mailRemoved  = "FACTOR_REMOVED"
	mailRecovery = "RECOVERY_CODE_USED"
)

// Assurance levels.
const (
	aal1 = "AAL1"
	aal2 = "AAL2"
)

// oldHash is a hash of Cleo's password as another system made it.
const oldHash = "$2a$10$OXGfZG10D.4.6RQisXmyhucYD.SXAOHl3IpAmpfJGdUeHQ6jJNqgy"

// signsIn signs somebody in with the password, and expects the session that
// follows when no second factor is asked for.
func (p *play) signsIn(who *person, account, kind string, keep bool) *device {
	what := "signing in as " + who.email
	next, err := p.client.signIn(p.ctx, account, who.email, who.password, kind, keep)
	p.must(what, err)
	equal(p, what+": a challenge", false, next.Challenge != nil)
	equal(p, what+": a set-up", false, next.EnrollmentRequired != nil)
	return p.on(who, kind, keep, aal1, present(p, what+": a session", next.Session))
}

// on notes a device somebody is signed in on now, and checks its session.
func (p *play) on(who *person, kind string, keep bool, level string, s *Session) *device {
	what := "the session of " + who.email
	equal(p, what+": its level", level, s.AssuranceLevel)
	equal(p, what+": its agent", who.name, s.Agent)
	equal(p, what+": a token", true, s.Token != "")
	equal(p, what+": its client", kind, present(p, what+": its client", s.Client).Kind)
	equal(p, what+": whether it is kept", keep, s.KeepMeLoggedIn)
	d := &device{owner: who, kind: kind, keep: keep, level: level, token: s.Token}
	who.devices = append(who.devices, d)
	return d
}

// asked signs in somebody who has a second factor, as far as the challenge.
func (p *play) asked(who *person, kind string) *Challenge {
	what := "signing in as " + who.email
	next, err := p.client.signIn(p.ctx, p.account, who.email, who.password, kind, false)
	p.must(what, err)
	equal(p, what+": a session without the second factor", false, next.Session != nil)
	challenge := present(p, what+": a challenge", next.Challenge)
	same(p, what+": what may answer", []string{"TOTP", "RECOVERY_CODE"}, challenge.Methods)
	return challenge
}

// signsInWithCode signs in with password and app.
func (p *play) signsInWithCode(who *person, kind string) {
	challenge := p.asked(who, kind)
	answer, err := p.client.verifyTOTP(p.ctx, challenge.SignInToken, p.code(who))
	p.must("the code of "+who.email, err)
	p.on(who, kind, false, aal2, present(p, "a session", answer.Session))
}

// code reads somebody's app.
func (p *play) code(who *person) string {
	code, err := who.app.code(p.ctx, p.Now)
	p.must("waiting for the next code", err)
	return code
}

// led signs in somebody who has to set up first, and checks that there is no
// session before.
func (p *play) led(who *person, kind string, keep bool) *EnrollmentRequired {
	what := "signing in as " + who.email
	next, err := p.client.signIn(p.ctx, p.account, who.email, who.password, kind, keep)
	p.must(what, err)
	equal(p, what+": a session without set-up", false, next.Session != nil)
	equal(p, what+": a challenge", false, next.Challenge != nil)
	required := present(p, what+": a set-up", next.EnrollmentRequired)
	same(p, what+": what may be set up", []string{"TOTP"}, required.Methods)
	prompt := present(p, what+": a prompt", required.Prompt)
	want := promptSetUp
	if kind == mobile {
		want = promptSetUpMobile
	}
	equal(p, what+": the prompt's code", want, prompt.Code)
	equal(p, what+": a title and a message", true, prompt.Title != "" && prompt.Message != "")
	_, err = p.client.getMe(p.ctx, required.SignInToken)
	p.refused("the sign-in token in place of a session", err, "UNAUTHENTICATED", "SESSION_UNKNOWN")
	return required
}

// setsUpAtSignIn goes through the set-up that a sign-in requires.
func (p *play) setsUpAtSignIn(who *person, kind string, keep bool) {
	required := p.led(who, kind, keep)
	p.saw("%s says: %s", strings.ToLower(kind), required.Prompt.Message)
	begun, err := p.client.beginSignInEnrollment(p.ctx, required.SignInToken)
	p.must("beginning the set-up", err)
	app, err := scan(begun)
	p.must("scanning the QR code", err)
	_, err = p.client.confirmSignInEnrollment(p.ctx, required.SignInToken, begun.EnrollmentID, app.wrong(p.Now))
	p.refused("a wrong code", err, "UNAUTHENTICATED", "CODE_INCORRECT")
	who.app = app
	done, err := p.client.confirmSignInEnrollment(p.ctx, required.SignInToken, begun.EnrollmentID, p.code(who))
	p.must("finishing the set-up", err)
	p.confirmed(who, done)
	p.on(who, kind, keep, aal2, done.Session)
}

// setsUpFromProfile sets a factor up in a session, or replaces the one there is.
func (p *play) setsUpFromProfile(who *person, at *device) *device {
	begun, err := p.client.beginEnrollment(p.ctx, at.token)
	p.must("beginning the set-up", err)
	app, err := scan(begun)
	p.must("scanning the QR code", err)
	_, err = p.client.confirmEnrollment(p.ctx, at.token, begun.EnrollmentID, "12345")
	p.refused("a code of five digits", err, "INVALID_ARGUMENT", "TOTP_CODE_MALFORMED")
	_, err = p.client.confirmEnrollment(p.ctx, at.token, begun.EnrollmentID, app.wrong(p.Now))
	p.refused("a wrong code", err, "UNAUTHENTICATED", "CODE_INCORRECT")
	who.app = app
	done, err := p.client.confirmEnrollment(p.ctx, at.token, begun.EnrollmentID, p.code(who))
	p.must("finishing the set-up", err)
	p.confirmed(who, done)
	return p.on(who, at.kind, at.keep, aal2, done.Session)
}

// confirmed checks what somebody sees who finished a set-up: a confirmation, the
// recovery codes, and that nothing that was signed in before still is.
func (p *play) confirmed(who *person, done Enrolled) {
	confirmation := present(p, "the confirmation", done.Confirmation)
	equal(p, "the confirmation's code", promptComplete, confirmation.Code)
	equal(p, "the confirmation's title and message", true, confirmation.Title != "" && confirmation.Message != "")
	different := map[string]bool{}
	for _, code := range done.RecoveryCodes {
		different[code] = len(code) >= 26 // 128 bits in base32
	}
	delete(different, "")
	equal(p, "recovery codes", 10, len(different))
	who.recovery = done.RecoveryCodes
	present(p, "the session", done.Session)
	p.saw("%s sees: %s", who.displayName, confirmation.Title)
	p.saw("10 recovery codes, and a session at AAL2")
	p.signedOut(who, "SESSION_REVOKED")
	me, err := p.client.getMe(p.ctx, done.Session.Token)
	p.must("asking who is signed in", err)
	equal(p, "the state of the second factor", "SET_UP", present(p, "the agent", me.Agent).MfaState)
	equal(p, "factors", 1, len(me.Factors))
	equal(p, "the factor's type", "TOTP", me.Factors[0].Type)
	equal(p, "recovery codes left", 10, me.RecoveryCodesLeft)
}

// signedOut checks that somebody's devices are all signed out, and why.
func (p *play) signedOut(who *person, reason string) {
	for _, d := range who.devices {
		_, err := p.client.getMe(p.ctx, d.token)
		p.refused("the earlier session on "+d.kind, err, "UNAUTHENTICATED", reason)
	}
	who.devices = nil
}

// works checks that a device is signed in, at the level it was.
func (p *play) works(d *device) Me {
	what := d.owner.email + " on " + d.kind
	me, err := p.client.getMe(p.ctx, d.token)
	p.must(what, err)
	equal(p, what+": level", d.level, present(p, what+": session", me.Session).AssuranceLevel)
	present(p, what+": enforcement", me.Enforcement)
	return me
}

// factorOf returns the id of the one factor of whoever is signed in.
func (p *play) factorOf(d *device) string {
	me := p.works(d)
	equal(p, "factors", 1, len(me.Factors))
	return me.Factors[0].Name[strings.LastIndex(me.Factors[0].Name, "/")+1:]
}
