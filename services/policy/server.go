package policy

import (
	"context"
	"log/slog"
	"time"

	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/idempotency"
	"github.com/twofold-auth/twofold/services/internal/outbox"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
	"github.com/twofold-auth/twofold/services/internal/resource"
)

const (
	// applyTimeout bounds how long an answer waits for the session service. The
	// event tells it as well.
	applyTimeout = time.Second

	defaultPageSize = 50
)

var _ policyv1.PolicyServiceServer = (*server)(nil)

// server is the PolicyService: it checks whose policy is meant, converts, and
// leaves the rest to the rule and the store.
type server struct {
	policyv1.UnsafePolicyServiceServer

	cfg        Config
	store      *store
	relay      *outbox.Relay
	sessions   sessionv1.SessionServiceClient
	pageTokens *pagetoken.Codec
	log        *slog.Logger
	metrics    *metrics
	now        func() time.Time // for deadlines of calls only; what is decided goes by the SQL clock
}

// CreateMfaPolicy gives a new account its policy.
func (s *server) CreateMfaPolicy(
	ctx context.Context, req *policyv1.CreateMfaPolicyRequest,
) (*policyv1.CreateMfaPolicyResponse, error) {
	caller := authz.FromContext(ctx)
	if err := caller.InAccount(req.GetAccount()); err != nil {
		return nil, err
	}
	settings := enforcement.Settings{GracePeriod: s.cfg.DefaultGracePeriod}
	p, err := s.store.create(ctx, req.GetAccount(), settings, actorOf(caller))
	if err != nil {
		return nil, err
	}
	return &policyv1.CreateMfaPolicyResponse{MfaPolicy: toProto(p)}, nil
}

// GetMfaPolicy returns the policy in force.
func (s *server) GetMfaPolicy(
	ctx context.Context, req *policyv1.GetMfaPolicyRequest,
) (*policyv1.GetMfaPolicyResponse, error) {
	account, err := accountOfCaller(ctx, req.GetName(), "name")
	if err != nil {
		return nil, err
	}
	p, err := s.store.get(ctx, account)
	if err != nil {
		return nil, err
	}
	return &policyv1.GetMfaPolicyResponse{MfaPolicy: toProto(p)}, nil
}

// UpdateMfaPolicy changes the policy.
func (s *server) UpdateMfaPolicy(
	ctx context.Context, req *policyv1.UpdateMfaPolicyRequest,
) (*policyv1.UpdateMfaPolicyResponse, error) {
	account, err := accountOfCaller(ctx, req.GetMfaPolicy().GetName(), "mfa_policy.name")
	if err != nil {
		return nil, err
	}
	wanted, err := newChange(req.GetMfaPolicy(), req.GetUpdateMask(), s.cfg.MinGracePeriod)
	if err != nil {
		return nil, err
	}
	caller := authz.FromContext(ctx)
	wanted.mayEnable = caller.MayEnforce()
	request, err := idempotency.NewKey(account, policyv1.PolicyService_UpdateMfaPolicy_FullMethodName, req.GetRequestId())
	if err != nil {
		return nil, err
	}
	fingerprint, err := idempotency.OfMessage(req)
	if err != nil {
		return nil, err
	}
	result, err := s.store.update(ctx, update{
		account:     account,
		request:     request,
		fingerprint: fingerprint,
		by:          actorOf(caller),
		decide:      wanted.decide,
	})
	if err != nil {
		return nil, err
	}
	s.metrics.saved(result.transition)
	s.relay.Wake()
	// Also when nothing changed or the answer is an old one: the caller may be
	// asking again because the first call was cut off between commit and here.
	s.applyNow(ctx, account, result.answer.GetMfaPolicy())
	return result.answer, nil
}

// applyNow tells the session service what was saved, so that whoever has seen the
// answer meets it everywhere. It is given up soon: the event will do it, and a
// policy that is saved must not be reported as failed.
func (s *server) applyNow(ctx context.Context, account string, saved *policyv1.MfaPolicy) {
	timeout := applyTimeout
	if deadline, ok := ctx.Deadline(); ok {
		// Half of what is left, so that the answer still arrives.
		timeout = min(timeout, deadline.Sub(s.now())/2)
	}
	// A caller who hangs up has changed the policy all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	_, err := s.sessions.ApplyEnforcement(ctx, &sessionv1.ApplyEnforcementRequest{
		Enforcement: toEnforcement(account, saved),
	})
	if err != nil {
		s.metrics.applyFailures.Inc()
		s.log.WarnContext(ctx, "Session service not told of a policy at once; the event will",
			slog.String("account", account), slog.Int64("revision", saved.GetRevision()), slog.Any("error", err))
	}
}

// PreviewMfaPolicy goes the way of an update up to where it would be written. Who
// may save it is not asked: seeing what would happen comes before setting up a
// factor of one's own.
func (s *server) PreviewMfaPolicy(
	ctx context.Context, req *policyv1.PreviewMfaPolicyRequest,
) (*policyv1.PreviewMfaPolicyResponse, error) {
	account, err := accountOfCaller(ctx, req.GetMfaPolicy().GetName(), "mfa_policy.name")
	if err != nil {
		return nil, err
	}
	wanted, err := newChange(req.GetMfaPolicy(), req.GetUpdateMask(), s.cfg.MinGracePeriod)
	if err != nil {
		return nil, err
	}
	// Nothing is saved, so there is nothing to lose to somebody else's change.
	wanted.etag = ""
	wanted.mayEnable = true
	o, err := s.store.preview(ctx, account, wanted.decide)
	if err != nil {
		return nil, err
	}
	return &policyv1.PreviewMfaPolicyResponse{
		Current: toProto(o.current), Preview: toProto(o.next), Transition: transitionToProto(o),
	}, nil
}

// cursor is where a page of revisions ends.
type cursor struct {
	Before int64 `json:"before"`
}

// ListMfaPolicyRevisions returns the policy's history.
func (s *server) ListMfaPolicyRevisions(
	ctx context.Context, req *policyv1.ListMfaPolicyRevisionsRequest,
) (*policyv1.ListMfaPolicyRevisionsResponse, error) {
	account, err := accountOfCaller(ctx, req.GetParent(), "parent")
	if err != nil {
		return nil, err
	}
	query := pagetoken.Query{
		Method: policyv1.PolicyService_ListMfaPolicyRevisions_FullMethodName,
		Parent: req.GetParent(),
	}
	var from cursor
	if req.GetPageToken() != "" {
		if err := s.pageTokens.Decode(req.GetPageToken(), query, &from); err != nil {
			return nil, err
		}
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultPageSize
	}
	found, err := s.store.revisions(ctx, account, from.Before, size+1)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 && from.Before == 0 {
		return nil, resource.ErrNotFound // every policy has a first revision
	}
	resp := &policyv1.ListMfaPolicyRevisionsResponse{}
	for _, r := range found[:min(size, len(found))] {
		resp.Revisions = append(resp.Revisions, revisionToProto(r))
	}
	if len(found) > size {
		resp.NextPageToken, err = s.pageTokens.Encode(query, cursor{Before: found[size-1].Revision})
	}
	return resp, err
}

// accountOfCaller returns the account of a policy's name, if the caller may know
// of it.
func accountOfCaller(ctx context.Context, name, field string) (string, error) {
	account, err := accountOf(name, field)
	if err != nil {
		return "", err
	}
	return account, authz.FromContext(ctx).InAccount(account)
}
