package story

// reset is what only admins may do.
func (p *play) reset() {
	p.step("%s has lost the phone. Not everybody may reset it.", p.cleo.displayName)
	const reason = "Cleo lost her phone on the train"
	_, err := p.client.resetMfa(p.ctx, p.ann.devices[0].token, p.cleo.name, reason)
	p.refused("an agent resetting", err, "PERMISSION_DENIED", "CALLER_NOT_PERMITTED")
	_, err = p.client.resetMfa(p.ctx, p.rival.devices[0].token, p.cleo.name, reason)
	p.refused("another account's owner resetting", err, "NOT_FOUND", "RESOURCE_NOT_FOUND")
	adam := p.adam.devices[0]
	_, err = p.client.resetMfa(p.ctx, adam.token, p.adam.name, "I want to")
	p.refused("an admin resetting himself", err, "FAILED_PRECONDITION", "CANNOT_RESET_SELF")
	_, err = p.client.resetMfa(p.ctx, adam.token, p.olivia.name, reason)
	p.refused("an admin resetting an owner", err, "PERMISSION_DENIED", "OWNER_REQUIRED")

	p.step("%s, an admin, resets it and says why.", p.adam.displayName)
	cleo, err := p.client.resetMfa(p.ctx, adam.token, p.cleo.name, reason)
	p.must("resetting", err)
	equal(p, "the state after the reset", "NOT_SET_UP", cleo.MfaState)
	equal(p, "the words after the reset", "Two-Factor Authentication not setup", cleo.MfaStatusMessage)
	p.signedOut(p.cleo, "SESSION_REVOKED")
	p.cleo.app = nil
	p.arrives(p.cleo, mailReset, p.adam.displayName, reason)

	p.step("Signing in leads her to set up anew.")
	p.setsUpAtSignIn(p.cleo, mobile, false)
	p.arrives(p.cleo, mailAdded)
}

// useRecoveryCodes is the way in without the phone, and what does not work twice.
func (p *play) useRecoveryCodes() {
	p.step("%s forgot the phone and uses a recovery code.", p.emil.displayName)
	code := p.emil.recovery[0]
	answer, err := p.client.verifyRecoveryCode(p.ctx, p.asked(p.emil, web).SignInToken, code)
	p.must("signing in with a recovery code", err)
	p.on(p.emil, web, false, aal2, present(p, "the session", answer.Session))
	p.arrives(p.emil, mailRecovery, "9 recovery codes left")
	_, err = p.client.verifyRecoveryCode(p.ctx, p.asked(p.emil, web).SignInToken, code)
	p.refused("the same recovery code again", err, "UNAUTHENTICATED", "CODE_INCORRECT")

	p.step("A code from the app is good once, too.")
	p.signsInWithCode(p.ann, web)
	_, err = p.client.verifyTOTP(p.ctx, p.asked(p.ann, web).SignInToken, p.ann.app.last)
	p.refused("the same code again", err, "UNAUTHENTICATED", "CODE_INCORRECT")
}

// switchOff ends the enforcement.
func (p *play) switchOff() {
	p.step("%s switches the enforcement off.", p.olivia.displayName)
	lifted, err := p.client.lift(p.ctx, p.olivia.devices[0].token, p.account)
	p.must("switching off", err)
	equal(p, "enforced", false, lifted.Enforced)
	equal(p, "the revision", p.policy.Revision+1, lifted.Revision)
	equal(p, "a session revoke time", false, lifted.SessionRevokeTime != nil)
	for _, who := range []*person{p.adam, p.ann, p.ben, p.cleo} {
		p.arrives(who, mailLifted, p.olivia.displayName)
	}
	p.saw("those who were told of it are told; %s and %s never were", p.olivia.displayName, p.emil.displayName)
	for _, d := range p.devicesAt(aal2) {
		p.works(d)
	}

	p.step("%s can remove the second factor again.", p.ben.displayName)
	ben := p.ben.devices[len(p.ben.devices)-1]
	p.must("removing it", p.client.deleteFactor(p.ctx, ben.token, p.factorOf(ben)))
	p.arrives(p.ben, mailRemoved)
	me, err := p.client.getMe(p.ctx, ben.token)
	p.must("the session it was removed in", err)
	equal(p, "the state of the second factor", "NOT_SET_UP", me.Agent.MfaState)
	equal(p, "factors", 0, len(me.Factors))
	p.ben.app = nil
	p.signsIn(p.ben, p.account, web, false)
	p.saw("and signs in with the password alone")
}
