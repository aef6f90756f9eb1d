package auth

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// The actions of the audit log.
const (
	actionCreateAccount    = "account.create"
	actionCreateAgent      = "agent.create"
	actionImportAgents     = "agent.import"
	actionUpdateAgent      = "agent.update"
	actionDeactivate       = "agent.deactivate"
	actionReactivate       = "agent.reactivate"
	actionResendInvitation = "agent.resendInvitation"
	actionResetMFA         = "agent.resetMfa"
	actionLinkSSO          = "agent.linkSso"
	actionChangePassword   = "password.change"
	actionEnroll           = "factor.enroll"
	actionRemoveFactor     = "factor.remove"
	actionVerifyFactor     = "factor.verify"
	actionRegenerateCodes  = "recoveryCodes.regenerate"
	actionUseCode          = "recoveryCode.use"
	actionRevokeSessions   = "agent.revokeSessions"
)

// newRefusals records the calls that are refused.
func newRefusals(deps Deps) (*audit.Refusals, error) {
	return audit.NewRefusals(audit.Config{
		Service: Schema,
		Services: []protoreflect.ServiceDescriptor{
			authv1.File_twofold_auth_v1_account_service_proto.Services().ByName("AccountService"),
			authv1.File_twofold_auth_v1_agent_service_proto.Services().ByName("AgentService"),
			authv1.File_twofold_auth_v1_sign_in_service_proto.Services().ByName("SignInService"),
			authv1.File_twofold_auth_v1_profile_service_proto.Services().ByName("ProfileService"),
		},
		Actions: map[string]string{
			authv1.AccountService_CreateAccount_FullMethodName:    actionCreateAccount,
			authv1.AgentService_CreateAgent_FullMethodName:        actionCreateAgent,
			authv1.AgentService_ImportAgents_FullMethodName:       actionImportAgents,
			authv1.AgentService_StreamImportAgents_FullMethodName: actionImportAgents,
			authv1.AgentService_UpdateAgent_FullMethodName:        actionUpdateAgent,
			authv1.AgentService_DeactivateAgent_FullMethodName:    actionDeactivate,
			authv1.AgentService_ReactivateAgent_FullMethodName:    actionReactivate,
			authv1.AgentService_ResendInvitation_FullMethodName:   actionResendInvitation,
			authv1.AgentService_ResetMfa_FullMethodName:           actionResetMFA,
		},
		Record: newLog(deps.DB).Record,
		Log:    deps.Log, Metrics: deps.Metrics, Now: deps.Now,
	})
}

// newLog is the service's audit log.
func newLog(db *sqldb.DB) audit.Log {
	return audit.Log{
		DB: db,
		Actor: func(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller) (*eventv1.Actor, error) {
			return actorOf(ctx, tx, caller)
		},
		HasAccount: func(ctx context.Context, tx *sqldb.Tx, account string) (bool, error) {
			_, err := selectAccount(ctx, tx, account)
			if errors.Is(err, resource.ErrNotFound) {
				return false, nil
			}
			return err == nil, err
		},
	}
}

// details is what the audit log tells besides who did what to whom. Names and
// addresses of people are not in it: they would stay there for ever.
type details map[string]string

// record adds what a caller did to the audit log. It comes after everything else
// in a transaction that locks something.
func record(
	ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, action, account, subject string, more details,
) error {
	actor, err := actorOf(ctx, tx, caller)
	if err != nil {
		return err
	}
	return audit.Append(ctx, tx, audit.Entry{Account: account, Actor: actor, Action: action, Subject: subject, Details: more})
}

// recordAgent is record for what was done to an agent.
func recordAgent(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, action string, a agent, more details) error {
	return record(ctx, tx, caller, action, a.account, a.name().String(), more)
}

// recordOwn is record for what agents do to themselves, in a session or on the
// way to one.
func recordOwn(ctx context.Context, tx *sqldb.Tx, action string, a agent, more details) error {
	return audit.Append(ctx, tx, audit.Entry{
		Account: a.account, Actor: agentActor(a), Action: action, Subject: a.name().String(), Details: more,
	})
}

func agentActor(a agent) *eventv1.Actor {
	return &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: a.name().String(), DisplayName: a.displayName}
}

func recordAccount(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, a account) error {
	return record(ctx, tx, caller, actionCreateAccount, a.id, resource.Account(a.id), details{
		"owner": resource.AgentName{Account: a.id, Agent: a.ownerID}.String(),
	})
}

func recordCreated(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, a agent) error {
	return recordAgent(ctx, tx, caller, actionCreateAgent, a, details{"role": string(a.role), "state": string(a.state)})
}

// recordImport tells of a whole import at once, also of one that made nobody: who
// tries a list of addresses learns from the answer which of them are taken.
func recordImport(
	ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, account string, rows, made int, invite bool,
) error {
	return record(ctx, tx, caller, actionImportAgents, account, resource.Account(account), details{
		"made": strconv.Itoa(made), "refused": strconv.Itoa(rows - made), "sendInvitations": strconv.FormatBool(invite),
	})
}

// recordUpdate tells what an update changed: roles, and of the rest only that it
// is not as it was.
func recordUpdate(ctx context.Context, tx *sqldb.Tx, caller *authz.Caller, before, a agent) error {
	more := details{}
	if a.role != before.role {
		more["role"], more["previousRole"] = string(a.role), string(before.role)
	}
	var changed []string
	if a.displayName != before.displayName {
		changed = append(changed, "displayName")
	}
	if a.email != before.email {
		changed = append(changed, "email")
	}
	if len(changed) > 0 {
		more["changed"] = strings.Join(changed, " ")
	}
	return recordAgent(ctx, tx, caller, actionUpdateAgent, a, more)
}

// recordCoolDown tells that wrong codes begin a cool-down, or disable the factor.
// Who sent them is known only in a session: elsewhere it may be anybody who knows
// the password.
func recordCoolDown(ctx context.Context, tx *sqldb.Tx, a agent, failures int, wait time.Duration) error {
	entry := audit.Entry{
		Account: a.account, Action: actionVerifyFactor, Subject: a.name().String(), Denied: errs.ReasonTooManyAttempts,
		Details: details{"failures": strconv.Itoa(failures), "coolDown": fmt.Sprintf("%.0fs", wait.Seconds())},
	}
	if failures >= disabledAt {
		entry.Details["disabled"] = "true"
	}
	if authz.FromContext(ctx).Kind == authz.KindPerson {
		entry.Actor = agentActor(a)
	}
	return audit.Append(ctx, tx, entry)
}
