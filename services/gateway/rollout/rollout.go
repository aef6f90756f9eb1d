package rollout

import (
	"context"
	"math"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/twofold-auth/twofold/gen/twofold/auth/v1"
	notifierv1 "github.com/twofold-auth/twofold/gen/twofold/notifier/v1"
	policyv1 "github.com/twofold-auth/twofold/gen/twofold/policy/v1"
	rolloutv1 "github.com/twofold-auth/twofold/gen/twofold/rollout/v1"
	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/authz"
	"github.com/twofold-auth/twofold/services/internal/errs"
	"github.com/twofold-auth/twofold/services/internal/resource"
)

// Deps is what the gateway gives the rollout.
type Deps struct {
	Policies      policyv1.PolicyServiceClient
	Agents        authv1.AgentServiceClient
	Sessions      sessionv1.SessionServiceClient
	Notices       notifierv1.NoticeServiceClient
	VerifySession authz.SessionVerifier
	Now           func() time.Time
	// Interval is how often a watched rollout is read, however many watch it, and
	// Limit how long one watching call lasts.
	Interval, Limit time.Duration
}

// Server implements RolloutService.
type Server struct {
	rolloutv1.UnsafeRolloutServiceServer
	Deps
	polls    polls
	stopOnce sync.Once
	stopping chan struct{}
}

var _ rolloutv1.RolloutServiceServer = (*Server)(nil)

// New returns a server of rollouts.
func New(deps Deps) *Server {
	return &Server{Deps: deps, polls: polls{of: map[string]*poll{}}, stopping: make(chan struct{})}
}

// Register adds the RPCs to a server.
func (s *Server) Register(r grpc.ServiceRegistrar) { rolloutv1.RegisterRolloutServiceServer(r, s) }

// EndWatches ends all watching calls, so that the process can stop; their callers
// call again, elsewhere.
func (s *Server) EndWatches() { s.stopOnce.Do(func() { close(s.stopping) }) }

// GetRollout implements RolloutServiceServer.
func (s *Server) GetRollout(ctx context.Context, req *rolloutv1.GetRolloutRequest) (*rolloutv1.GetRolloutResponse, error) {
	account, err := accountOf(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	rollout, err := s.read(ctx, account)
	if err != nil {
		return nil, err
	}
	return &rolloutv1.GetRolloutResponse{Rollout: rollout}, nil
}

// PreviewRollout implements RolloutServiceServer.
func (s *Server) PreviewRollout(ctx context.Context, req *rolloutv1.PreviewRolloutRequest) (*rolloutv1.PreviewRolloutResponse, error) {
	account, err := accountOf(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	// Without a field mask: whatever may be set is as the policy says, except a
	// grace period that is absent, which stays.
	desired := proto.CloneOf(req.GetPolicy())
	desired.Name = resource.Account(account) + "/mfaPolicy"
	preview, err := s.Policies.PreviewMfaPolicy(ctx, &policyv1.PreviewMfaPolicyRequest{MfaPolicy: desired})
	if err != nil {
		return nil, errs.Forward(err)
	}
	now, then := preview.GetCurrent(), preview.GetPreview()
	var (
		counts   *authv1.CountAgentsResponse
		countNow *authv1.CountAgentsResponse
		ending   *sessionv1.CountSessionsResponse
		notices  *notifierv1.CountNoticesResponse
	)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { counts, err = s.countAgents(gctx, account, then); return err })
	g.Go(func() (err error) { countNow, err = s.countAgents(gctx, account, now); return err })
	g.Go(func() (err error) { ending, err = s.countSessions(gctx, account, then); return err })
	g.Go(func() (err error) { notices, err = s.countNotices(gctx, account, now); return err })
	if err := g.Wait(); err != nil {
		return nil, errs.Forward(err)
	}
	answer := &rolloutv1.PreviewRolloutResponse{
		Transition:     rolloutv1.PreviewRolloutResponse_Transition(preview.GetTransition()), // the same numbers
		Policy:         then,
		AgentsTotal:    shown(counts.GetCovered()),
		AgentsNotSetUp: shown(counts.GetCovered() - counts.GetEnrolled()),
		Allowed:        authz.FromContext(ctx).MayEnforce() || preview.GetTransition() != policyv1.PreviewMfaPolicyResponse_ENABLED,
	}
	if then.GetEnforced() {
		answer.SessionsEnding = shown(ending.GetEnding())
	}
	count, kind := mails(preview, counts.GetToNotify(), countNow.GetToNotify(), notices.GetTold())
	answer.Mails, answer.MailKind = shown(count), kind
	return answer, nil
}

// mails says how many mails a save sends, and about what. The enforcement is told
// to everybody it asks, an earlier deadline is told again, wider terms are told to
// those they are new for, and the end of it to whoever was told. toNotify is how
// many it asks then, toNotifyNow how many it asks by the terms of now.
func mails(preview *policyv1.PreviewMfaPolicyResponse, toNotify, toNotifyNow, told int64) (int64, notifierv1.Notice_Kind) {
	count, kind := int64(0), notifierv1.Notice_ENFORCEMENT_ENABLED
	switch preview.GetTransition() {
	case policyv1.PreviewMfaPolicyResponse_ENABLED:
		count = toNotify
	case policyv1.PreviewMfaPolicyResponse_UPDATED:
		count = max(0, toNotify-toNotifyNow)
		before, after := preview.GetCurrent().GetSessionRevokeTime(), preview.GetPreview().GetSessionRevokeTime()
		if before != nil && after != nil && after.AsTime().Before(before.AsTime()) {
			count = toNotify
		}
	case policyv1.PreviewMfaPolicyResponse_DISABLED:
		count, kind = told, notifierv1.Notice_ENFORCEMENT_LIFTED
	case policyv1.PreviewMfaPolicyResponse_TRANSITION_UNSPECIFIED:
	}
	if count == 0 {
		return 0, notifierv1.Notice_KIND_UNSPECIFIED
	}
	return count, kind
}

// read puts an account's rollout together.
func (s *Server) read(ctx context.Context, account string) (*rolloutv1.Rollout, error) {
	answer, err := s.Policies.GetMfaPolicy(ctx, &policyv1.GetMfaPolicyRequest{Name: resource.Account(account) + "/mfaPolicy"})
	if err != nil {
		return nil, errs.Forward(err)
	}
	policy := answer.GetMfaPolicy()
	var (
		counts   *authv1.CountAgentsResponse
		sessions *sessionv1.CountSessionsResponse
		notices  *notifierv1.CountNoticesResponse
	)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { counts, err = s.countAgents(gctx, account, policy); return err })
	g.Go(func() (err error) { sessions, err = s.countSessions(gctx, account, policy); return err })
	g.Go(func() (err error) { notices, err = s.countNotices(gctx, account, policy); return err })
	if err := g.Wait(); err != nil {
		return nil, errs.Forward(err)
	}
	return &rolloutv1.Rollout{
		Name:              resource.Account(account) + "/rollout",
		Policy:            policy,
		AgentsTotal:       shown(counts.GetCovered()),
		AgentsEnrolled:    shown(counts.GetEnrolled()),
		Notices:           byState(notices),
		SessionsEnding:    shown(sessions.GetEnding()),
		SessionRevokeTime: policy.GetSessionRevokeTime(),
		ReadTime:          timestamppb.New(s.Now()),
	}, nil
}

func (s *Server) countAgents(ctx context.Context, account string, policy *policyv1.MfaPolicy) (*authv1.CountAgentsResponse, error) {
	return s.Agents.CountAgents(ctx, &authv1.CountAgentsRequest{Account: account, ApplyToSso: policy.GetApplyToSso()})
}

func (s *Server) countSessions(ctx context.Context, account string, policy *policyv1.MfaPolicy) (*sessionv1.CountSessionsResponse, error) {
	return s.Sessions.CountSessions(ctx, &sessionv1.CountSessionsRequest{Account: account, ApplyToSso: policy.GetApplyToSso()})
}

func (s *Server) countNotices(ctx context.Context, account string, policy *policyv1.MfaPolicy) (*notifierv1.CountNoticesResponse, error) {
	return s.Notices.CountNotices(ctx, &notifierv1.CountNoticesRequest{Account: account, PolicyRevision: policy.GetRevision()})
}

// shown is a count as it is shown: of 32 bits, because JSON has those as numbers
// and longer ones as strings.
func shown(count int64) int32 { return int32(min(count, math.MaxInt32)) } //nolint:gosec // counts are not negative

func byState(counts *notifierv1.CountNoticesResponse) *rolloutv1.Rollout_Notices {
	n := &rolloutv1.Rollout_Notices{Complete: counts.GetFanOutComplete()}
	for _, c := range counts.GetCounts() {
		number := shown(c.GetNotices())
		n.Total += number
		switch c.GetState() {
		case notifierv1.Notice_QUEUED:
			n.Queued += number
		case notifierv1.Notice_SENDING, notifierv1.Notice_RETRYING:
			n.Retrying += number
		case notifierv1.Notice_SENT:
			n.Sent += number
		case notifierv1.Notice_FAILED:
			n.Failed += number
		case notifierv1.Notice_UNKNOWN:
			n.Unknown += number
		case notifierv1.Notice_SUPPRESSED:
			n.Suppressed += number
		case notifierv1.Notice_STATE_UNSPECIFIED:
		}
	}
	return n
}

// accountOf returns the account of `accounts/{account}/rollout`, if the caller
// may know of it.
func accountOf(ctx context.Context, name string) (string, error) {
	parent, found := strings.CutSuffix(name, "/rollout")
	if !found {
		return "", errs.New(codes.InvalidArgument, errs.ReasonInvalidField, "A rollout's name is accounts/{account}/rollout.").
			WithViolation("name", "It must have the form accounts/{account}/rollout.")
	}
	account, err := resource.ParseAccount("name", parent)
	if err != nil {
		return "", err
	}
	return account, authz.FromContext(ctx).InAccount(account)
}
