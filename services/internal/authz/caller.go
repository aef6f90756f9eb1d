package authz

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	authzv1 "github.com/twofold-auth/twofold/gen/twofold/authz/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/errs"
)

// Kind says in which capacity a call was admitted.
type Kind int

const (
	// KindAnonymous is a call whose method looks at no credentials.
	KindAnonymous Kind = iota
	// KindPerson is a call by a person with a live session.
	KindPerson
	// KindOperator is a call by the platform team.
	KindOperator
	// KindService is a call by a service on its own behalf.
	KindService
)

// Caller is who makes a call, as far as the method asked.
type Caller struct {
	Kind Kind
	// Person is set for KindPerson, and only then.
	Person *Person
	// Via is the identity in the client certificate, whatever the kind: the
	// service itself for KindService, `gateway` for a person behind a browser,
	// empty for a client without a certificate.
	Via string
	// ClientAddress is where the person or program at the far end is. It is not
	// valid when that is unknown, as for calls between services in one process.
	ClientAddress netip.Addr
	// RequestID ties together what the suite logs and records about one call.
	RequestID string

	bearer string // for VerifyAgain alone: tokens are in no exported field, and so in no log
}

// Person is an agent with a live session.
type Person struct {
	Account        string // bare id: acme
	Agent          string // bare id
	AgentVersion   int64  // the session's; behind the agent's while a change is under way
	SessionName    string // accounts/{account}/agents/{agent}/sessions/{session}
	Role           sessionv1.Session_Role
	AssuranceLevel sessionv1.Session_AssuranceLevel
	// FactorVerifyTime is when a second factor was last verified in this session;
	// zero for never.
	FactorVerifyTime time.Time
}

// NewPerson returns the person to whom the session of a verdict belongs.
func NewPerson(verdict *sessionv1.ValidateSessionResponse) (*Person, error) {
	session := verdict.GetSession()
	parts := strings.Split(session.GetAgent(), "/")
	if len(parts) != 4 || parts[0] != "accounts" || parts[1] == "" || parts[2] != "agents" || parts[3] == "" {
		return nil, fmt.Errorf("authz: the session's agent %q is no resource name", session.GetAgent())
	}
	p := &Person{
		Account:        parts[1],
		Agent:          parts[3],
		AgentVersion:   verdict.GetAgentVersion(),
		SessionName:    session.GetName(),
		Role:           session.GetRole(),
		AssuranceLevel: session.GetAssuranceLevel(),
	}
	if t := session.GetFactorVerifyTime(); t != nil {
		p.FactorVerifyTime = t.AsTime()
	}
	return p, nil
}

// AccountName returns `accounts/{account}`.
func (p *Person) AccountName() string { return "accounts/" + p.Account }

// AgentName returns `accounts/{account}/agents/{agent}`.
func (p *Person) AgentName() string { return p.AccountName() + "/agents/" + p.Agent }

// IsAdmin reports whether the person's role is ADMIN or OWNER.
func (p *Person) IsAdmin() bool {
	return p.Role == sessionv1.Session_ADMIN || p.Role == sessionv1.Session_OWNER
}

// InAccount returns nil when the caller may know what is in the account, given by
// its bare id: persons in their own, operators and services in all. To everybody
// else the account does not exist, and neither does anything in it, so that ids
// of others cannot be told from ids of nobody.
func (c *Caller) InAccount(account string) error {
	switch c.Kind {
	case KindOperator, KindService:
		return nil
	case KindPerson:
		if c.Person != nil && account != "" && c.Person.Account == account {
			return nil
		}
	case KindAnonymous:
	}
	return errs.New(codes.NotFound, errs.ReasonResourceNotFound, "There is no such resource.")
}

// MayEnforce reports whether the caller may require a second factor of everybody
// in an account: persons after having used their own, for admins are not exempt.
func (c *Caller) MayEnforce() bool {
	switch c.Kind {
	case KindOperator, KindService:
		return true
	case KindPerson:
		return c.Person != nil && c.Person.AssuranceLevel == sessionv1.Session_AAL2
	case KindAnonymous:
	}
	return false
}

type callerKey struct{}

// NewContext returns a context that carries the caller of a call.
func NewContext(ctx context.Context, c *Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// FromContext returns the caller of the call that ctx belongs to. Outside of a
// call that is a caller who may do nothing, never nil.
func FromContext(ctx context.Context) *Caller {
	if c, ok := ctx.Value(callerKey{}).(*Caller); ok {
		return c
	}
	return &Caller{}
}

// admitted reports whether the access option of a method lists the caller's kind.
// Roles and identities have been looked at; it is the last word.
func (c *Caller) admitted(access *authzv1.Access) bool {
	for _, kind := range access.GetCallers() {
		switch kind {
		case authzv1.Access_ANYONE, authzv1.Access_SIGN_IN_TOKEN:
			return true
		case authzv1.Access_SESSION:
			if c.Kind == KindPerson {
				return true
			}
		case authzv1.Access_ADMIN:
			if c.Kind == KindPerson && c.Person.IsAdmin() {
				return true
			}
		case authzv1.Access_OPERATOR:
			if c.Kind == KindOperator {
				return true
			}
		case authzv1.Access_SERVICE:
			if c.Kind == KindService && permits(access, c.Via) {
				return true
			}
		case authzv1.Access_CALLER_UNSPECIFIED:
		}
	}
	return false
}
