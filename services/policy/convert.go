package policy

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/twofold-auth/twofold/gen/twofold/event/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/resource"
)

// nameOf is `accounts/{account}/mfaPolicy`.
func nameOf(account string) string { return "accounts/" + account + "/mfaPolicy" }

// accountOf returns the account of a policy's name; field is where the request
// had it.
func accountOf(name, field string) (string, error) {
	account, found := strings.CutPrefix(name, "accounts/")
	account, complete := strings.CutSuffix(account, "/mfaPolicy")
	if !found || !complete || account == "" || strings.Contains(account, "/") {
		return "", errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "The request has an invalid field.").
			WithViolation(field, "A policy's name is accounts/{account}/mfaPolicy.")
	}
	if !resource.IsAccountID(account) {
		return "", resource.ErrNotFound
	}
	return account, nil
}

// etag changes with every change. The time is in it because a database that was
// restored from a backup counts the same revisions again.
func (p policy) etag() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", p.account, p.Revision, p.updateTime.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

func toProto(p policy) *policyv1.MfaPolicy {
	return &policyv1.MfaPolicy{
		Name:              nameOf(p.account),
		Enforced:          p.Enforced,
		GracePeriod:       durationpb.New(p.GracePeriod),
		ApplyToSso:        p.ApplyToSSO,
		Revision:          p.Revision,
		EnforceTime:       timestamp(p.EnforceTime),
		SessionRevokeTime: timestamp(p.SessionRevokeTime()),
		UpdateTime:        timestamp(p.updateTime),
		Etag:              p.etag(),
	}
}

func revisionToProto(r revision) *policyv1.MfaPolicyRevision {
	return &policyv1.MfaPolicyRevision{
		Name:                      fmt.Sprintf("%s/revisions/%d", nameOf(r.account), r.Revision),
		Policy:                    toProto(r.policy),
		Actor:                     actorToProto(r.actor),
		PreviousSessionRevokeTime: timestamp(r.previousRevokeTime),
	}
}

// toEnforcement is what sessions need to know of a policy.
func toEnforcement(account string, p *policyv1.MfaPolicy) *sessionv1.Enforcement {
	e := &sessionv1.Enforcement{
		Account:    account,
		Revision:   p.GetRevision(),
		Enforced:   p.GetEnforced(),
		ApplyToSso: p.GetApplyToSso(),
		UpdateTime: p.GetUpdateTime(),
	}
	if p.GetEnforced() {
		e.EnforceTime, e.GracePeriod = p.GetEnforceTime(), p.GetGracePeriod()
	}
	return e
}

// transitionToProto says what a change does to enforcement. Other settings while
// it is off do nothing to it.
func transitionToProto(o outcome) policyv1.PreviewMfaPolicyResponse_Transition {
	switch o.transition {
	case enforcement.Enabled:
		return policyv1.PreviewMfaPolicyResponse_ENABLED
	case enforcement.Disabled:
		return policyv1.PreviewMfaPolicyResponse_DISABLED
	case enforcement.Updated:
		if o.next.Enforced {
			return policyv1.PreviewMfaPolicyResponse_UPDATED
		}
	case enforcement.Unchanged:
	}
	return policyv1.PreviewMfaPolicyResponse_TRANSITION_UNSPECIFIED
}

// actorOf is the caller as the history names them. How to call a person is auth's
// to know.
func actorOf(caller *authz.Caller) actor {
	switch caller.Kind {
	case authz.KindPerson:
		return actor{kind: eventv1.Actor_AGENT, name: caller.Person.AgentName()}
	case authz.KindOperator:
		return actor{kind: eventv1.Actor_OPERATOR}
	case authz.KindService:
		return actor{kind: eventv1.Actor_SERVICE, name: caller.Via}
	case authz.KindAnonymous:
	}
	return actor{}
}

func actorToProto(a actor) *eventv1.Actor {
	return &eventv1.Actor{Kind: a.kind, Name: a.name, DisplayName: a.displayName}
}

// timestamp is absent for a time that is not set.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
