package story

import (
	"fmt"
	"strings"
	"time"
)

// The answers, as a customer reads them in the JSON. Both doors are read into
// these: what one has and the other lacks shows.

// Account is a customer's account.
type Account struct {
	Name, DisplayName, Owner string
}

// Agent is a person of an account.
type Agent struct {
	Name, Email, DisplayName, Role, State string
	MfaState, MfaStatusMessage            string
	MfaStateTime, LastSignInTime          *time.Time
}

// AgentList is a page of agents.
type AgentList struct {
	Agents        []Agent
	NextPageToken string
	TotalSize     int
}

// ImportResults says what became of each row of an import.
type ImportResults struct {
	Results []struct {
		Agent *Agent
		Error *struct{ Reason, Message string }
	}
}

// Session is a signed-in device.
type Session struct {
	Name, Token, Agent, AssuranceLevel string
	Client                             *struct{ Kind string }
	KeepMeLoggedIn                     bool
	ExpireTime, PolicyRevokeTime       *time.Time
}

// Prompt is what a screen tells a person.
type Prompt struct{ Code, Title, Message string }

// NextStep is what follows a password: one of three.
type NextStep struct {
	Session            *Session
	Challenge          *Challenge
	EnrollmentRequired *EnrollmentRequired
}

// Challenge asks for a second factor.
type Challenge struct {
	SignInToken string
	Methods     []string
}

// EnrollmentRequired asks for the set-up of a second factor.
type EnrollmentRequired struct {
	SignInToken string
	Methods     []string
	Prompt      *Prompt
}

// SignedIn is the answer to a challenge.
type SignedIn struct{ Session *Session }

// Enrollment is a factor in the making.
type Enrollment struct {
	EnrollmentID string
	Secret       string
	OtpauthURI   string `json:"otpauthUri"`
	QRPNG        []byte `json:"qrPng"`
}

// Enrolled is a finished set-up.
type Enrolled struct {
	RecoveryCodes []string
	Confirmation  *Prompt
	Session       *Session
}

// Me is who is signed in.
type Me struct {
	Agent             *Agent
	Session           *Session
	Factors           []struct{ Name, Type string }
	RecoveryCodesLeft int
	Enforcement       *struct {
		Enforced          bool
		SessionRevokeTime *time.Time
	}
}

// Policy is an account's policy.
type Policy struct {
	Name                           string
	Enforced                       bool
	GracePeriod                    string
	Revision                       int64 `json:",string"`
	EnforceTime, SessionRevokeTime *time.Time
}

// Preview is what saving a policy would do.
type Preview struct {
	Transition     string
	Policy         *Policy
	AgentsTotal    int64
	AgentsNotSetUp int64
	Mails          int64
	MailKind       string
	SessionsEnding int64
	Allowed        bool
}

// Rollout is how far an enforcement has come.
type Rollout struct {
	Policy            *Policy
	AgentsTotal       int64
	AgentsEnrolled    int64
	Notices           *Notices
	SessionsEnding    int64
	SessionRevokeTime *time.Time
}

// Notices is the mails of an enforcement by state.
type Notices struct {
	Queued     int64
	Retrying   int64
	Sent       int64
	Failed     int64
	Unknown    int64
	Suppressed int64
	Total      int64
	Complete   bool
}

// Refusal is an error of the suite.
type Refusal struct {
	Code    string // such as FAILED_PRECONDITION
	Reason  string // such as ADMIN_NOT_ENROLLED
	Message string // for people
}

// Error implements error.
func (r *Refusal) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s: %s", r.Code, r.Reason, r.Message))
}
