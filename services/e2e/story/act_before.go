package story

// makeTheAccount is the platform team's part.
func (p *play) makeTheAccount() {
	p.step("The platform team makes the account %q with its owner %s.", p.account, p.olivia.displayName)
	account, err := p.client.createAccount(p.ctx, p.OperatorToken, p.account, p.displayName, p.olivia)
	p.must("making the account", err)
	equal(p, "the account's name", "accounts/"+p.account, account.Name)
	p.olivia.name = account.Owner
	owner, err := p.client.getAgent(p.ctx, p.OperatorToken, account.Owner)
	p.must("reading the owner", err)
	equal(p, "the owner's role", "OWNER", owner.Role)
	equal(p, "the owner's address", p.olivia.email, owner.Email)
	_, err = p.client.createAccount(p.ctx, p.OperatorToken, p.account, p.displayName, p.olivia)
	p.refused("making it again", err, "ALREADY_EXISTS", "ACCOUNT_EXISTS")
	_, err = p.client.createAccount(p.ctx, "some-other-token", p.otherAccount, "Rival", p.rival)
	p.refused("making one with another token", err, "UNAUTHENTICATED", "SESSION_UNKNOWN")
	other, err := p.client.createAccount(p.ctx, p.OperatorToken, p.otherAccount, "Rival", p.rival)
	p.must("making another account", err)
	p.rival.name = other.Owner

	p.step("It makes one admin and imports four agents, one with a password hash from elsewhere.")
	adam, err := p.client.createAgent(p.ctx, p.OperatorToken, p.account, p.adam)
	p.must("making the admin", err)
	p.adam.name = adam.Name
	team := []*person{p.emil, p.ann, p.ben, p.cleo}
	imported, err := p.client.importAgents(p.ctx, p.OperatorToken, p.account, team)
	p.must("importing", err)
	equal(p, "results of the import", len(team), len(imported.Results))
	for i, who := range team {
		agent := present(p, "the imported agent "+who.email, imported.Results[i].Agent)
		equal(p, "the address of the imported agent", who.email, agent.Email)
		equal(p, "the state of the second factor", "NOT_SET_UP", agent.MfaState)
		who.name = agent.Name
	}
	again, err := p.client.importAgents(p.ctx, p.OperatorToken, p.account, team)
	p.must("importing again", err)
	for i := range team {
		equal(p, "a row that was imported before", "EMAIL_TAKEN", present(p, "the row's error", again.Results[i].Error).Reason)
	}
	p.saw("6 people; importing them again changes nothing")
}

// workWithoutEnforcement signs everybody in.
func (p *play) workWithoutEnforcement() {
	p.step("Everybody signs in with a password alone: web, mobile and desktop, some for 30 days.")
	_, wrong := p.client.signIn(p.ctx, p.account, p.ann.email, "not the password", web, false)
	p.refused("a wrong password", wrong, "UNAUTHENTICATED", "INVALID_CREDENTIALS")
	_, unknown := p.client.signIn(p.ctx, p.account, "nobody@"+p.account+".example", "not the password", web, false)
	p.refused("an address nobody has", unknown, "UNAUTHENTICATED", "INVALID_CREDENTIALS")
	equal(p, "what the two say", wrong.Error(), unknown.Error())

	p.signsIn(p.olivia, p.account, web, false)
	p.signsIn(p.adam, p.account, web, true)
	p.signsIn(p.emil, p.account, mobile, true)
	p.signsIn(p.emil, p.account, web, false)
	p.signsIn(p.ann, p.account, web, true)
	p.signsIn(p.ann, p.account, mobile, false)
	p.signsIn(p.ben, p.account, web, false)
	p.signsIn(p.ben, p.account, mobile, true)
	p.signsIn(p.ben, p.account, desktop, true)
	p.signsIn(p.cleo, p.account, mobile, true)
	p.signsIn(p.rival, p.otherAccount, web, false)
	for _, d := range p.devicesAt(aal1) {
		me := p.works(d)
		equal(p, "enforcement", false, me.Enforcement.Enforced)
	}
	p.saw("%d sessions, all at AAL1", len(p.devicesAt(aal1)))
	last := p.ben.devices[0]
	p.must("signing out", p.client.signOut(p.ctx, p.signsIn(p.ben, p.account, desktop, false).token))
	_, err := p.client.getMe(p.ctx, p.ben.devices[3].token)
	p.refused("a session that signed out", err, "UNAUTHENTICATED", "SESSION_REVOKED")
	p.ben.devices = p.ben.devices[:3]
	p.works(last)
}

// setUpUnasked is the set-up from the profile, which anybody may do at any time.
func (p *play) setUpUnasked() {
	p.step("%s sets up two-factor authentication from the profile, unasked.", p.emil.displayName)
	p.setsUpFromProfile(p.emil, p.emil.devices[1])
	p.arrives(p.emil, mailAdded)
	p.signsInWithCode(p.emil, desktop)
	p.saw("signing in asks for a code from then on")
}

// switchOn is the admin's part.
func (p *play) switchOn() {
	before := p.olivia.devices[0]
	p.step("%s wants to enforce it for everybody, but has not set it up.", p.olivia.displayName)
	_, err := p.client.enforce(p.ctx, before.token, p.account, p.Grace)
	p.refused("switching on", err, "FAILED_PRECONDITION", "ADMIN_NOT_ENROLLED")
	_, err = p.client.enforce(p.ctx, p.ann.devices[0].token, p.account, p.Grace)
	p.refused("switching on as an agent", err, "PERMISSION_DENIED", "CALLER_NOT_PERMITTED")
	_, err = p.client.enforce(p.ctx, p.rival.devices[0].token, p.account, p.Grace)
	p.refused("switching on as another account's owner", err, "NOT_FOUND", "RESOURCE_NOT_FOUND")
	seen, err := p.client.preview(p.ctx, before.token, p.account, p.Grace)
	p.must("previewing", err)
	equal(p, "the preview before she set up: allowed", false, seen.Allowed)
	p.policy, err = p.client.getPolicy(p.ctx, before.token, p.account)
	p.must("reading the policy", err)
	equal(p, "enforced", false, p.policy.Enforced)
	equal(p, "an enforce time", false, p.policy.EnforceTime != nil)

	p.step("She sets it up first.")
	olivia := p.setsUpFromProfile(p.olivia, before)
	p.arrives(p.olivia, mailAdded)

	p.step("She looks at what switching on would do.")
	p.notSetUpThen = len(p.without())
	seen, err = p.client.preview(p.ctx, olivia.token, p.account, p.Grace)
	p.must("previewing", err)
	equal(p, "the preview: transition", "ENABLED", seen.Transition)
	equal(p, "the preview: allowed", true, seen.Allowed)
	equal(p, "the preview: agents", int64(len(p.everybody())), seen.AgentsTotal)
	equal(p, "the preview: agents without", int64(p.notSetUpThen), seen.AgentsNotSetUp)
	equal(p, "the preview: mails", int64(p.notSetUpThen), seen.Mails)
	equal(p, "the preview: kind of mail", mailEnabled, seen.MailKind)
	equal(p, "the preview: sessions that end", int64(len(p.devicesAt(aal1))), seen.SessionsEnding)
	p.saw("%d of %d agents have no second factor and get a mail; %d sessions will end", seen.AgentsNotSetUp, seen.AgentsTotal, seen.SessionsEnding)

	p.step("She switches it on, with a grace period of %s, and saves.", p.Grace)
	saved, err := p.client.enforce(p.ctx, olivia.token, p.account, p.Grace)
	p.must("switching on", err)
	equal(p, "enforced", true, saved.Enforced)
	equal(p, "the revision", p.policy.Revision+1, saved.Revision)
	equal(p, "the grace period", p.Grace, saved.grace(p))
	begin, end := present(p, "the enforce time", saved.EnforceTime), present(p, "the session revoke time", saved.SessionRevokeTime)
	equal(p, "the time between", p.Grace, end.Sub(*begin))
	p.policy = saved
	p.saw("enforced since %s; sessions without a second factor end at %s", clock(*begin), clock(*end))

	p.step("Nobody is signed out by that.")
	for _, d := range append(p.devicesAt(aal1), p.devicesAt(aal2)...) {
		equal(p, "enforcement for "+d.owner.email, true, p.works(d).Enforcement.Enforced)
		// The date is there as soon as the session service has heard of it.
		p.eventually(d.owner.email+" on "+d.kind+": a date on which the session ends, at AAL1 only", func() (bool, string) {
			date := p.works(d).Session.PolicyRevokeTime
			if d.level == aal2 || date == nil {
				return d.level == aal2 && date == nil, "none"
			}
			return date.Equal(*end), clock(*date)
		})
	}
	p.saw("all %d sessions still answer", len(p.devicesAt(aal1))+len(p.devicesAt(aal2)))
}
