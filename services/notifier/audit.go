package notifier

import (
	"context"

	"google.golang.org/protobuf/reflect/protoreflect"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// actionResend is how the audit log calls what admins do here.
const actionResend = "notice.resend"

// newRefusals records the calls that are refused.
func newRefusals(deps Deps, who *people) (*audit.Refusals, error) {
	log := audit.Log{
		DB: deps.DB,
		Actor: func(_ context.Context, _ *sqldb.Tx, caller *authz.Caller) (*eventv1.Actor, error) {
			return callerOf(caller), nil
		},
	}
	return audit.NewRefusals(audit.Config{
		Service: Schema,
		Services: []protoreflect.ServiceDescriptor{
			notifierv1.File_twofold_notifier_v1_notice_service_proto.Services().ByName("NoticeService"),
		},
		Actions: map[string]string{notifierv1.NoticeService_ResendNotice_FullMethodName: actionResend},
		Record: func(ctx context.Context, r audit.Refusal) error {
			// Auth alone knows which accounts there are, and is not asked within a
			// transaction.
			if !r.Exists {
				var err error
				if r.Exists, err = who.hasAccount(ctx, r.Account); err != nil || !r.Exists {
					return err
				}
			}
			return log.Record(ctx, r)
		},
		Log: deps.Log, Metrics: deps.Metrics, Now: deps.Now,
	})
}

// resentEntry tells that a notice is sent again.
func resentEntry(caller *authz.Caller, n notice) audit.Entry {
	return audit.Entry{
		Account: n.account, Actor: callerOf(caller), Action: actionResend, Subject: noticeName(n),
		Details: map[string]string{
			"kind": string(n.kind), "agent": resource.AgentName{Account: n.account, Agent: n.agent}.String(),
		},
	}
}

// callerOf is who makes a call. What people are called is not known here.
func callerOf(caller *authz.Caller) *eventv1.Actor {
	switch caller.Kind {
	case authz.KindPerson:
		return &eventv1.Actor{Kind: eventv1.Actor_AGENT, Name: caller.Person.AgentName()}
	case authz.KindOperator:
		return &eventv1.Actor{Kind: eventv1.Actor_OPERATOR}
	case authz.KindService:
		return &eventv1.Actor{Kind: eventv1.Actor_SERVICE, Name: caller.Via}
	case authz.KindAnonymous:
	}
	return &eventv1.Actor{}
}
