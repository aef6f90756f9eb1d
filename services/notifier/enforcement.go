package notifier

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	"github.com/twofold-auth/twofold/services/internal/resource"
	"github.com/twofold-auth/twofold/services/notifier/mail"
)

// terms is what the newest event said about an account's enforcement.
type terms struct {
	account  string
	revision int64
	enforced bool
	// enforceTime names the enforcement: no two of an account begin together.
	enforceTime time.Time
	revokeTime  time.Time
	applyToSSO  bool
	changeTime  time.Time
	changedBy   actor
	enabledBy   actor
}

// fanOut is an event to be told to many agents.
type fanOut struct {
	account     string
	revision    int64
	kind        mail.Kind
	eventID     string
	enforceTime time.Time
	lastAgent   string
	leaseOwner  string
}

var errNotOfPolicy = errors.New("notifier: not an event about enforcement")

// termsOf reads an event about enforcement.
func termsOf(account string, payload proto.Message) (terms, error) {
	var of string
	var p *policyv1.MfaPolicy
	t := terms{account: account}
	switch e := payload.(type) {
	case *policyv1.EnforcementEnabled:
		of, p, t.enforced, t.changedBy = e.GetAccount(), e.GetPolicy(), true, actorOf(e.GetActor())
	case *policyv1.EnforcementUpdated:
		of, p, t.enforced, t.changedBy = e.GetAccount(), e.GetPolicy(), true, actorOf(e.GetActor())
	case *policyv1.EnforcementDisabled:
		of, p, t.changedBy = e.GetAccount(), e.GetPolicy(), actorOf(e.GetActor())
	default:
		return terms{}, errNotOfPolicy
	}
	if of != account || !resource.IsAccountID(account) {
		return terms{}, fmt.Errorf("notifier: event of account %q says it is of %q", account, of)
	}
	t.revision, t.changeTime = p.GetRevision(), timeOf(p.GetUpdateTime())
	if t.revision <= 0 || t.changeTime.IsZero() {
		return terms{}, errors.New("notifier: event about enforcement without revision or time")
	}
	if !t.enforced {
		return t, nil
	}
	t.enforceTime, t.revokeTime, t.applyToSSO = timeOf(p.GetEnforceTime()), timeOf(p.GetSessionRevokeTime()), p.GetApplyToSso()
	if t.enforceTime.IsZero() || t.revokeTime.IsZero() {
		return terms{}, errors.New("notifier: event about enforcement without its times")
	}
	return t, nil
}

// after is what is known when news arrive, and whether they are news at all. A
// later revision says everything that an earlier one said and still holds, so
// events may come in any order and any number of times: only the newest counts.
func (t terms) after(news terms) (next terms, isNews bool) {
	if news.revision <= t.revision {
		return t, false
	}
	news.enabledBy = news.changedBy
	if news.enforced && t.enforced && t.enforceTime.Equal(news.enforceTime) {
		news.enabledBy = t.enabledBy
	}
	return news, true
}

// fanOut is what is to be told of the terms.
func (t terms) fanOut(eventID string) fanOut {
	f := fanOut{account: t.account, revision: t.revision, kind: mail.KindEnforcementLifted, eventID: eventID}
	if t.enforced {
		f.kind, f.enforceTime = mail.KindEnforcementEnabled, t.enforceTime
	}
	return f
}

// timeOf is zero for a time that is absent or none.
func timeOf(ts *timestamppb.Timestamp) time.Time {
	if ts.CheckValid() != nil {
		return time.Time{}
	}
	return ts.AsTime().Truncate(time.Microsecond)
}
