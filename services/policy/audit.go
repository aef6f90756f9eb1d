package policy

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	"github.com/twofold-auth/twofold/services/internal/audit"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/internal/sqldb"
)

// The actions of the audit log.
const (
	actionCreate = "mfaPolicy.create"
	actionUpdate = "mfaPolicy.update"
)

// newRefusals records the calls that are refused.
func newRefusals(deps Deps) (*audit.Refusals, error) {
	return audit.NewRefusals(audit.Config{
		Service: Schema,
		Services: []protoreflect.ServiceDescriptor{
			policyv1.File_twofold_policy_v1_policy_service_proto.Services().ByName("PolicyService"),
		},
		Actions: map[string]string{policyv1.PolicyService_UpdateMfaPolicy_FullMethodName: actionUpdate},
		Record: audit.Log{
			DB: deps.DB,
			Actor: func(_ context.Context, _ *sqldb.Tx, caller *authz.Caller) (*eventv1.Actor, error) {
				return actorToProto(actorOf(caller)), nil
			},
			HasAccount: func(ctx context.Context, tx *sqldb.Tx, account string) (bool, error) {
				_, err := selectPolicy(ctx, tx, account, "")
				if errors.Is(err, resource.ErrNotFound) {
					return false, nil
				}
				return err == nil, err
			},
		}.Record,
		Log: deps.Log, Metrics: deps.Metrics, Now: deps.Now,
	})
}

// createdEntry tells of the first policy of an account.
func createdEntry(p policy, by actor) audit.Entry {
	return audit.Entry{
		Account: p.account, Actor: actorToProto(by), Action: actionCreate, Subject: nameOf(p.account),
		Details: map[string]string{"revision": "1", "enforced": "false", "gracePeriod": inSeconds(p.GracePeriod)},
	}
}

// updatedEntry tells of a change: what is different now, and what it was.
func updatedEntry(o outcome, by actor) audit.Entry {
	details := map[string]string{
		"revision":   strconv.FormatInt(o.next.Revision, 10),
		"transition": string(o.transition),
	}
	changed := func(field, previous, now, before string) {
		if now != before {
			details[field], details[previous] = now, before
		}
	}
	changed("enforced", "previousEnforced", strconv.FormatBool(o.next.Enforced), strconv.FormatBool(o.current.Enforced))
	changed("gracePeriod", "previousGracePeriod", inSeconds(o.next.GracePeriod), inSeconds(o.current.GracePeriod))
	changed("applyToSso", "previousApplyToSso", strconv.FormatBool(o.next.ApplyToSSO), strconv.FormatBool(o.current.ApplyToSSO))
	changed("sessionRevokeTime", "previousSessionRevokeTime", inUTC(o.next.SessionRevokeTime()), inUTC(o.current.SessionRevokeTime()))
	return audit.Entry{
		Account: o.next.account, Actor: actorToProto(by), Action: actionUpdate, Subject: nameOf(o.next.account), Details: details,
	}
}

// inUTC writes a time as JSON does; none is empty.
func inUTC(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
