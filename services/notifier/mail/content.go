package mail

import "time"

// Kind names what a mail is about. It travels in the Twofold-Notice header.
type Kind string

// The kinds of notice. The values are part of the public contract.
const (
	KindEnforcementEnabled Kind = "ENFORCEMENT_ENABLED"
	KindEnforcementLifted  Kind = "ENFORCEMENT_LIFTED"
	KindMFAReset           Kind = "MFA_RESET"
	KindFactorAdded        Kind = "FACTOR_ADDED"
	KindFactorRemoved      Kind = "FACTOR_REMOVED"
	KindRecoveryCodeUsed   Kind = "RECOVERY_CODE_USED"
	KindInvitation         Kind = "INVITATION"
	KindPasswordReset      Kind = "PASSWORD_RESET"
	KindPasswordChanged    Kind = "PASSWORD_CHANGED"
	KindEmailChanged       Kind = "EMAIL_CHANGED"
)

// Kinds lists every kind, in the order of the public contract.
func Kinds() []Kind {
	return []Kind{
		KindEnforcementEnabled, KindEnforcementLifted, KindMFAReset, KindFactorAdded,
		KindFactorRemoved, KindRecoveryCodeUsed, KindInvitation, KindPasswordReset,
		KindPasswordChanged, KindEmailChanged,
	}
}

// Link is an absolute http or https address. It is what the mail's one button
// opens, and it always comes from Twofold, never from a person.
type Link string

// FreeText is a sentence typed by a person, such as the reason for a reset. It
// is cleaned like a name but may be longer.
type FreeText string

// Content is what one mail says. The types below are the only ones. Their
// strings may hold anything: rendering cleans them.
type Content interface {
	notice() notice
}

// notice is what rendering needs to know of a Content beside its fields.
type notice struct {
	kind Kind
	link Link
	// seconds asks for times with seconds, where minutes would not tell two
	// moments apart.
	seconds bool
	// more holds values that templates need and that follow from the fields.
	more map[string]any
}

// EnforcementEnabled tells an agent without a second factor that the account
// now requires one. It also tells again when a later change brought the date
// forward: PreviousSessionRevokeTime is then the date told before.
type EnforcementEnabled struct {
	AgentName   string
	AccountName string
	// AdminName is who switched it on.
	AdminName   string
	EnforceTime time.Time
	// SessionRevokeTime is when the agent is signed out everywhere. Not later
	// than EnforceTime means: it has happened already.
	SessionRevokeTime time.Time
	// PreviousSessionRevokeTime is zero unless an earlier mail named another date.
	PreviousSessionRevokeTime time.Time
	SetUpURL                  Link
}

func (c EnforcementEnabled) notice() notice {
	grace := c.SessionRevokeTime.Sub(c.EnforceTime)
	return notice{
		kind: KindEnforcementEnabled, link: c.SetUpURL, seconds: grace > 0 && grace < time.Hour,
		more: map[string]any{"AtOnce": grace <= 0},
	}
}

// EnforcementLifted tells those who got EnforcementEnabled that the account no
// longer requires a second factor.
type EnforcementLifted struct {
	AgentName   string
	AccountName string
	// AdminName is who switched it off.
	AdminName  string
	LiftTime   time.Time
	ProfileURL Link
}

func (c EnforcementLifted) notice() notice {
	return notice{kind: KindEnforcementLifted, link: c.ProfileURL}
}

// MFAReset tells an agent that somebody removed their second factors.
type MFAReset struct {
	AgentName   string
	AccountName string
	// AdminName is who reset them.
	AdminName string
	ResetTime time.Time
	Reason    FreeText
	// Required says whether the account requires a second factor.
	Required  bool
	SignInURL Link
}

func (c MFAReset) notice() notice { return notice{kind: KindMFAReset, link: c.SignInURL} }

// FactorAdded tells an agent that a second factor was added to their profile.
type FactorAdded struct {
	AgentName   string
	AccountName string
	// FactorName is what the factor is called for people, for example
	// "Authenticator app".
	FactorName  string
	AddTime     time.Time
	SecurityURL Link
}

func (c FactorAdded) notice() notice { return notice{kind: KindFactorAdded, link: c.SecurityURL} }

// FactorRemoved tells an agent that a second factor was removed from their
// profile, by whoever was signed in as them.
type FactorRemoved struct {
	AgentName   string
	AccountName string
	FactorName  string
	RemoveTime  time.Time
	SecurityURL Link
}

func (c FactorRemoved) notice() notice {
	return notice{kind: KindFactorRemoved, link: c.SecurityURL}
}

// RecoveryCodeUsed tells an agent that a recovery code stood in for their
// second factor.
type RecoveryCodeUsed struct {
	AgentName   string
	AccountName string
	UseTime     time.Time
	// CodesLeft is how many unused recovery codes remain.
	CodesLeft   int
	SecurityURL Link
}

func (c RecoveryCodeUsed) notice() notice {
	return notice{kind: KindRecoveryCodeUsed, link: c.SecurityURL}
}

// Invitation asks a new agent to choose a password and so to join the account.
type Invitation struct {
	AgentName   string
	AccountName string
	// AdminName is who invited them.
	AdminName  string
	ExpireTime time.Time
	// Required says whether the account requires a second factor; an agent
	// created after enforcement learns of it here and in no other mail.
	Required bool
	// AcceptURL holds a one-time token.
	AcceptURL Link
}

func (c Invitation) notice() notice { return notice{kind: KindInvitation, link: c.AcceptURL} }

// PasswordReset lets an agent who asked for it choose a new password.
type PasswordReset struct {
	AgentName   string
	AccountName string
	RequestTime time.Time
	ExpireTime  time.Time
	// ResetURL holds a one-time token.
	ResetURL Link
}

func (c PasswordReset) notice() notice { return notice{kind: KindPasswordReset, link: c.ResetURL} }

// PasswordChanged tells an agent that their profile has a new password.
type PasswordChanged struct {
	AgentName   string
	AccountName string
	ChangeTime  time.Time
	// First says that there was none before: an invitation was accepted.
	First bool
	// ByLink says that it was changed with a link, and not by whoever was signed in.
	ByLink      bool
	SecurityURL Link
}

func (c PasswordChanged) notice() notice {
	return notice{kind: KindPasswordChanged, link: c.SecurityURL}
}

// EmailChanged tells an agent, at the address they had, that they have another one.
type EmailChanged struct {
	AgentName   string
	AccountName string
	// AdminName is who changed it.
	AdminName  string
	ChangeTime time.Time
	// NewAddress is the new address with most of it masked: whoever reads the old
	// mailbox need not learn it.
	NewAddress string
	SignInURL  Link
}

func (c EmailChanged) notice() notice { return notice{kind: KindEmailChanged, link: c.SignInURL} }
