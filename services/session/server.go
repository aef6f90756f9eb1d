package session

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sessionv1 "github.com/twofold-auth/twofold/gen/twofold/session/v1"
	"github.com/twofold-auth/twofold/services/internal/enforcement"
	"github.com/twofold-auth/twofold/services/internal/pagetoken"
)

var _ sessionv1.SessionServiceServer = (*sessionServer)(nil)

// sessionServer serves the services of the suite.
type sessionServer struct {
	sessionv1.UnsafeSessionServiceServer
	*Service
}

func (s *sessionServer) ValidateSession(ctx context.Context, req *sessionv1.ValidateSessionRequest) (*sessionv1.ValidateSessionResponse, error) {
	return s.verdict(ctx, req.GetToken(), req.GetTouch())
}

func (s *sessionServer) CreateSession(ctx context.Context, req *sessionv1.CreateSessionRequest) (*sessionv1.CreateSessionResponse, error) {
	now := s.clock()
	agent, err := parseAgent(req.GetAgent(), "agent")
	if err != nil {
		return nil, err
	}
	carried, err := s.carried(req.GetEnforcement(), agent, req.GetAgentVersion(), now)
	if err != nil {
		return nil, err
	}
	if req.GetClient().GetKind() == sessionv1.Client_KIND_UNSPECIFIED {
		return nil, invalidField("client.kind", "A sign-in says what kind of client it is from.")
	}
	t := newToken(agent, now)
	rec := s.newRecord(t, req, now)
	if err := s.store.issue(ctx, rec, carried, nil, now); err != nil {
		return nil, err
	}
	return &sessionv1.CreateSessionResponse{Session: s.issued(t, rec, carried, now)}, nil
}

// issued is a new session, with its token.
func (s *Service) issued(t token, rec *record, carried told, now time.Time) *sessionv1.Session {
	out := s.toProto(rec, carried.policy.Judge(rec.facts(), now).RevokeTime)
	out.Token = t.encode()
	return out
}

// carried reads what a sign-in was decided on.
func (s *Service) carried(e *sessionv1.Enforcement, agent agentRef, version int64, now time.Time) (told, error) {
	if version < 1 {
		return told{}, invalidField("agent_version", "Versions count from 1.")
	}
	t, err := s.cfg.read(e, now)
	if err == nil && t.account != agent.account {
		err = invalidField("enforcement.account", "This is not the agent's account.")
	}
	return t, err
}

func (s *sessionServer) ReissueSession(ctx context.Context, req *sessionv1.ReissueSessionRequest) (*sessionv1.ReissueSessionResponse, error) {
	now := s.clock()
	ref, err := parseSession(req.GetName(), "name")
	if err != nil {
		return nil, err
	}
	carried, err := s.carried(req.GetEnforcement(), ref.agentRef, req.GetAgentVersion(), now)
	if err != nil {
		return nil, err
	}
	for range swapTries {
		old, err := s.store.readOne(ctx, ref, now)
		if err != nil {
			return nil, err
		}
		t := newToken(ref.agentRef, now)
		rec := *old.record
		rec.ref, rec.hash, rec.agentVersion = t.sessionRef, t.hash(), req.GetAgentVersion()
		rec.aal2, rec.factorVerify, rec.lastSeen, rec.lowered = true, now, now, time.Time{}
		err = s.store.issue(ctx, &rec, carried, &old, now)
		if errors.Is(err, errReplacedChanged) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.told(ctx, ref.bucket())
		return &sessionv1.ReissueSessionResponse{Session: s.issued(t, &rec, carried, now)}, nil
	}
	return nil, errOvertaken()
}

func (s *sessionServer) RevokeSession(ctx context.Context, req *sessionv1.RevokeSessionRequest) (*sessionv1.RevokeSessionResponse, error) {
	ref, err := parseSession(req.GetName(), "name")
	if err != nil {
		return nil, err
	}
	if _, err := s.revoke(ctx, ending{sessions: []sessionRef{ref}}); err != nil {
		return nil, err
	}
	return &sessionv1.RevokeSessionResponse{}, nil
}

func (s *sessionServer) RevokeAgentSessions(ctx context.Context, req *sessionv1.RevokeAgentSessionsRequest) (*sessionv1.RevokeAgentSessionsResponse, error) {
	agent, keep, err := agentAndKept(req.GetAgent(), req.GetAgentVersion(), req.GetKeepSession())
	if err != nil {
		return nil, err
	}
	now := s.clock()
	f := fence{agent: agent, version: req.GetAgentVersion(), keep: keep}
	if req.GetLowerKept() {
		f.lowered = now
	}
	if err := s.store.fence(ctx, f, now); err != nil {
		return nil, err
	}
	refs, err := s.store.sessionsOf(ctx, agent)
	if err != nil {
		return nil, err
	}
	n, err := s.revoke(ctx, ending{sessions: refs, below: req.GetAgentVersion()})
	if err != nil {
		return nil, err
	}
	return &sessionv1.RevokeAgentSessionsResponse{Revoked: int32(n)}, nil //nolint:gosec // as many as one agent has
}

// agentAndKept reads a revocation up to a version.
func agentAndKept(name string, version int64, keepName string) (agentRef, *sessionRef, error) {
	agent, err := parseAgent(name, "agent")
	if err != nil {
		return agent, nil, err
	}
	if version < 1 {
		return agent, nil, invalidField("agent_version", "Versions count from 1.")
	}
	if keepName == "" {
		return agent, nil, nil
	}
	keep, err := parseSession(keepName, "keep_session")
	if err == nil && keep.agentRef != agent {
		err = invalidField("keep_session", "This is no session of the agent.")
	}
	return agent, &keep, err
}

// revoke ends sessions of one agent, and lets the event stream know before it
// returns.
func (s *Service) revoke(ctx context.Context, e ending) (int64, error) {
	if len(e.sessions) == 0 {
		return 0, nil
	}
	e.cause = sessionv1.SessionsRevoked_REVOKED
	n, err := s.store.end(ctx, e, s.clock())
	if err != nil {
		return n, err
	}
	if n > 0 {
		s.told(ctx, e.sessions[0].bucket())
	}
	return n, nil
}

func (s *sessionServer) ApplyEnforcement(ctx context.Context, req *sessionv1.ApplyEnforcementRequest) (*sessionv1.ApplyEnforcementResponse, error) {
	t, err := s.cfg.read(req.GetEnforcement(), s.clock())
	if err != nil {
		return nil, err
	}
	newest, err := s.store.apply(ctx, t)
	if err != nil {
		return nil, err
	}
	return &sessionv1.ApplyEnforcementResponse{Revision: newest}, nil
}

func (s *sessionServer) GetStoreState(ctx context.Context, _ *sessionv1.GetStoreStateRequest) (*sessionv1.GetStoreStateResponse, error) {
	// A process that starts knows in a moment. Policy, which asks at its own start,
	// would come back only seconds later, and tell every enforcement that much later.
	s.store.floor.await(ctx, startWait)
	generation, err := s.store.generation(ctx)
	if err != nil {
		return nil, err
	}
	return &sessionv1.GetStoreStateResponse{Generation: generation}, nil
}

func (s *sessionServer) CountSessions(ctx context.Context, req *sessionv1.CountSessionsRequest) (*sessionv1.CountSessionsResponse, error) {
	if !validAccount(req.GetAccount()) {
		return nil, invalidField("account", "This is no account id.")
	}
	now := s.clock()
	n, err := s.store.count(ctx, req.GetAccount(), now)
	if err != nil {
		return nil, err
	}
	// What the deadline ended counts no more, although nobody swept it yet.
	policy, err := s.store.policyOf(ctx, req.GetAccount())
	if err != nil {
		return nil, err
	}
	old := enforcement.Session{AssuranceLevel: enforcement.AAL1}
	if !policy.Judge(old, now).Alive {
		n.covered = 0
	}
	if old.Exempt = true; !policy.Judge(old, now).Alive {
		n.exempt = 0
	}
	out := &sessionv1.CountSessionsResponse{Ending: n.covered, Aal1: n.covered + n.exempt}
	if req.GetApplyToSso() {
		out.Ending += n.exempt
	}
	return out, nil
}

func (s *sessionServer) ListScheduledRevocations(ctx context.Context, req *sessionv1.ListScheduledRevocationsRequest) (*sessionv1.ListScheduledRevocationsResponse, error) {
	size := pageSize(req.GetPageSize(), 1000)
	query := pagetoken.Query{Method: sessionv1.SessionService_ListScheduledRevocations_FullMethodName}
	var after *dueCursor
	if req.GetPageToken() != "" {
		after = &dueCursor{}
		if err := s.pages.Decode(req.GetPageToken(), query, after); err != nil {
			return nil, err
		}
	}
	entries, err := s.store.listDue(ctx, after, size+1)
	if err != nil {
		return nil, err
	}
	out := &sessionv1.ListScheduledRevocationsResponse{}
	if len(entries) > size {
		entries = entries[:size]
		if out.NextPageToken, err = s.pages.Encode(query, cursorAfter(after, entries)); err != nil {
			return nil, err
		}
	}
	for _, e := range entries {
		out.ScheduledRevocations = append(out.ScheduledRevocations, &sessionv1.ScheduledRevocation{
			Subject: e.name(), Version: e.version, DueTime: timestamppb.New(e.due), Revoked: e.revoked,
		})
	}
	return out, nil
}

// cursorAfter is the place behind a page's last entry.
func cursorAfter(before *dueCursor, page []scheduled) dueCursor {
	next := dueCursor{Due: page[len(page)-1].due.UnixMilli()}
	for _, e := range page {
		if e.due.UnixMilli() == next.Due {
			next.Skip++
		}
	}
	if before != nil && before.Due == next.Due {
		next.Skip += before.Skip
	}
	return next
}

func pageSize(asked int32, most int) int {
	const usual = 50
	if asked <= 0 {
		return usual
	}
	return min(int(asked), most)
}
